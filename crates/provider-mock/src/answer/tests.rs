use super::*;

fn answer(script: &str, asked: Asked) -> Answer {
    Answer::new(Arc::new(Directives::from_json(script).unwrap()), asked, 7)
}

fn asked(text: &str, choices: u32) -> Asked {
    Asked { model: "m".into(), text: text.into(), prompt_tokens: 3, choices, ..Asked::default() }
}

fn text_of(steps: &[Step], wanted: u32) -> String {
    let text = steps.iter().map(|step| match step {
        Step::Say(Delta::Text { choice, text, .. }) if *choice == wanted => text.as_str(),
        _ => "",
    });
    text.collect()
}

fn usage_of(steps: &[Step]) -> Option<Usage> {
    steps.iter().find_map(|step| if let Step::Say(Delta::Usage(usage)) = step { Some(*usage) } else { None })
}

#[test]
fn the_friendly_answer_quotes_the_question_and_counts_every_token() {
    let mut answer = answer("{}", asked("what is up?", 2));
    let steps: Vec<_> = answer.by_ref().collect();
    let said = text_of(&steps, 0);
    assert_eq!(said, "Hello from the mock. You said: what is up?");
    assert_eq!(text_of(&steps, 1), said);
    let usage = usage_of(&steps).unwrap();
    assert_eq!((usage.input, usage.output), (3, 2 * tokens::count(&said)));
    assert_eq!(answer.produced(), usage.output);
    let finished = steps.iter().filter(|step| matches!(step, Step::Say(Delta::Finished { .. }))).count();
    assert_eq!(finished, 2);
    assert!(matches!(steps.last(), Some(Step::Say(Delta::Usage(_)))));
}

#[test]
fn a_long_question_is_quoted_in_part() {
    let steps: Vec<_> = answer("{}", asked(&"é".repeat(500), 1)).collect();
    assert!(text_of(&steps, 0).len() < QUOTED + 50);
}

#[test]
fn tokens_and_the_asked_limit_set_the_length() {
    let steps: Vec<_> = answer(r#"{"tokens": 5}"#, asked("", 1)).collect();
    assert_eq!(usage_of(&steps).unwrap().output, 5);
    let steps: Vec<_> = answer(r#"{"text": "ab ", "tokens": 4}"#, asked("", 1)).collect();
    assert_eq!(text_of(&steps, 0), "ab ab ");
    let limited = Asked { max_tokens: Some(2), ..asked("", 1) };
    let steps: Vec<_> = answer(r#"{"tokens": 5}"#, limited).collect();
    assert_eq!(text_of(&steps, 0), " the mock");
    assert!(
        steps.iter().any(|s| matches!(s, Step::Say(Delta::Finished { reason: FinishReason::Length, .. })))
    );
}

#[test]
fn pauses_come_before_tokens_and_once_for_all_choices() {
    let steps: Vec<_> =
        answer(r#"{"tokens": 3, "first_token_ms": 9, "inter_token_ms": 2}"#, asked("", 2)).collect();
    let pauses: Vec<_> = steps
        .iter()
        .filter_map(|s| if let Step::Pause(pause) = s { Some(pause.as_millis()) } else { None })
        .collect();
    assert_eq!(pauses, [9, 2, 2]);
    assert!(matches!(steps[0], Step::Say(Delta::Started(_))));
    assert!(matches!(steps[1], Step::Pause(_)));
}

#[test]
fn tool_calls_come_in_two_pieces_that_join_to_the_arguments() {
    let steps: Vec<_> =
        answer(r#"{"tool_calls": [{"name": "f", "arguments": {"a": "é"}}, {"name": "g"}]}"#, asked("x", 1))
            .collect();
    let mut joined = [String::new(), String::new()];
    let mut names = Vec::new();
    for step in &steps {
        if let Step::Say(Delta::ToolCall { index, name, arguments, .. }) = step {
            joined[*index as usize].push_str(arguments);
            names.extend(name.clone());
        }
    }
    assert_eq!(joined, [r#"{"a":"é"}"#, "{}"]);
    assert_eq!(names, ["f", "g"]);
    assert!(
        steps.iter().any(|s| matches!(s, Step::Say(Delta::Finished { reason: FinishReason::ToolCalls, .. })))
    );
}

#[test]
fn usage_can_be_wrong_given_or_missing() {
    let usage = |script: &str| usage_of(&answer(script, asked("hi", 1)).collect::<Vec<_>>());
    assert_eq!(usage(r#"{"omit_usage": true}"#), None);
    let wrong = usage(r#"{"wrong_usage": true}"#).unwrap();
    assert!(wrong.output == 0 && wrong.cached_input > Some(wrong.input));
    let given =
        usage(r#"{"usage": {"prompt_tokens": 11, "completion_tokens": 5, "cached_tokens": 4}}"#).unwrap();
    assert_eq!((given.input, given.output, given.cached_input), (11, 5, Some(4)));
}

#[test]
fn a_hang_in_the_middle_says_half_and_stops() {
    let mut answer = answer(r#"{"tokens": 6, "hang": "mid_stream"}"#, asked("", 1));
    let said = answer.by_ref().take_while(|step| !matches!(step, Step::Hang)).count();
    assert_eq!(said, 1 + 3);
    assert_eq!(answer.produced(), 3);
    assert!(matches!(answer.next(), Some(Step::Hang)));
}

#[test]
fn equal_inputs_have_equal_unit_vectors_of_the_wanted_length() {
    let directives = Directives::from_json(r#"{"embedding_dimensions": 5}"#).unwrap();
    let asked = Asked { inputs: vec![1, 2, 1], ..Asked::default() };
    let all = vectors(&directives, &asked);
    assert_eq!(all[0], all[2]);
    assert_ne!(all[0], all[1]);
    assert!(all.iter().all(|v| v.len() == 5 && (v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4));
    let asked = Asked { dimensions: Some(3), ..asked };
    assert_eq!(vectors(&directives, &asked)[0].len(), 3);
}

#[test]
fn a_completion_repeats_each_prompt_when_asked() {
    let asked = Asked { repeated: vec!["A".into(), "B".into()], ..asked("B", 4) };
    let steps: Vec<_> = answer(r#"{"text": "!"}"#, asked).collect();
    let said: Vec<_> = (0..4).map(|choice| text_of(&steps, choice)).collect();
    assert_eq!(said, ["A!", "A!", "B!", "B!"]);
}
