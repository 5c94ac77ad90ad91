//! Answers with a shape: schemas, JSON, forced tool calls, and schemas that must be refused.

use std::time::{Duration, Instant};

use penstock_domain::{
    Code, Content, Conversation, FinishReason, Json, ResponseFormat, Role, Sampling, Tool, ToolChoice,
};
use serde_json::{Value, json};

use crate::ask::{Reply, ask, chat, greedy, local, message};

fn shaped(text: &str, schema: &Value, sampling: Sampling) -> Content {
    let mut conversation = chat(text, sampling);
    let schema = Json::from_valid(schema.to_string());
    conversation.response_format =
        ResponseFormat::JsonSchema { name: "answer".into(), schema, strict: Some(true) };
    Content::Chat(conversation)
}

async fn shape(text: &str, schema: Value) -> Value {
    let reply = ask(&local(), shaped(text, &schema, greedy(200))).await.unwrap();
    assert_eq!(reply.reasons, [Some(FinishReason::Stop)], "{reply:?}");
    serde_json::from_str(reply.text()).unwrap_or_else(|error| panic!("{error}: {}", reply.text()))
}

#[tokio::test]
async fn schemas_are_kept() {
    let person = shape(
        "Describe Ada Lovelace, born 1815.",
        json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 40}, "born": {"type": "integer", "minimum": 1000, "maximum": 2100}}, "required": ["name", "born"], "additionalProperties": false}),
    )
    .await;
    assert!(
        person["name"].is_string() && (1000..=2100).contains(&person["born"].as_i64().unwrap()),
        "{person}"
    );
    assert_eq!(person.as_object().unwrap().len(), 2);

    let color = shape("What color is the sky?", json!({"type": "object", "properties": {"color": {"enum": ["red", "green", "blue"]}, "sure": {"type": "boolean"}}, "required": ["color", "sure"], "additionalProperties": false})).await;
    assert!(["red", "green", "blue"].contains(&color["color"].as_str().unwrap()));
    assert!(color["sure"].is_boolean());

    let list = shape("List three fruits.", json!({"type": "object", "properties": {"fruits": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"$ref": "#/$defs/fruit"}}}, "required": ["fruits"], "additionalProperties": false, "$defs": {"fruit": {"type": "string", "minLength": 2, "maxLength": 12}}})).await;
    assert_eq!(list["fruits"].as_array().unwrap().len(), 3);

    let either = shape("Answer with a date or null.", json!({"type": "object", "properties": {"when": {"anyOf": [{"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}, {"type": "null"}]}}, "required": ["when"], "additionalProperties": false})).await;
    let when = &either["when"];
    assert!(when.is_null() || when.as_str().unwrap().len() == 7, "{either}");
}

#[tokio::test]
async fn a_json_object_is_json_at_any_temperature() {
    for seed in 0..2 {
        let sampling = Sampling {
            temperature: Some(1.5),
            seed: Some(seed),
            max_output_tokens: Some(120),
            ..Sampling::default()
        };
        let mut conversation = chat("Give me a JSON object with a name and an age.", sampling);
        conversation.response_format = ResponseFormat::JsonObject;
        let reply = ask(&local(), Content::Chat(conversation)).await.unwrap();
        if reply.reasons == [Some(FinishReason::Stop)] {
            assert!(serde_json::from_str::<Value>(reply.text()).unwrap().is_object(), "{}", reply.text());
        }
    }
}

fn weather() -> Vec<Tool> {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["celsius", "fahrenheit"]}}, "required": ["city", "unit"], "additionalProperties": false});
    let time = json!({"type": "object", "properties": {"zone": {"$ref": "#/$defs/zone"}}, "required": ["zone"], "additionalProperties": false, "$defs": {"zone": {"enum": ["UTC", "CET"]}}});
    [("get_weather", "The weather of a city", parameters), ("get_time", "The time of a zone", time)]
        .map(|(name, description, schema)| Tool {
            name: name.into(),
            description: Some(description.into()),
            parameters: Some(Json::from_valid(schema.to_string())),
            strict: None,
            cache_mark: None,
        })
        .to_vec()
}

async fn with_tools(text: &str, choice: ToolChoice) -> Reply {
    let conversation =
        Conversation { tools: weather(), tool_choice: Some(choice), ..chat(text, greedy(120)) };
    ask(&local(), Content::Chat(conversation)).await.unwrap()
}

#[tokio::test]
async fn forced_calls_are_valid() {
    let reply = with_tools("What is the weather in Paris?", ToolChoice::Named("get_weather".into())).await;
    assert_eq!(reply.reasons, [Some(FinishReason::ToolCalls)]);
    let (name, arguments) = &reply.calls[0][0];
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(name, "get_weather");
    assert!(
        arguments["city"].is_string()
            && ["celsius", "fahrenheit"].contains(&arguments["unit"].as_str().unwrap())
    );
    assert_eq!(reply.text(), "");

    let reply = with_tools("What time is it in Vienna?", ToolChoice::Required).await;
    assert_eq!(reply.reasons, [Some(FinishReason::ToolCalls)]);
    let (name, arguments) = &reply.calls[0][0];
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    match name.as_str() {
        "get_time" => assert!(["UTC", "CET"].contains(&arguments["zone"].as_str().unwrap())),
        "get_weather" => assert!(arguments["city"].is_string()),
        other => panic!("{other} is not a tool"),
    }
}

#[tokio::test]
async fn free_choice_and_history_work() {
    for choice in [ToolChoice::Auto, ToolChoice::None] {
        let reply = with_tools("What is the weather in Paris?", choice).await;
        assert!(!reply.text().is_empty() || !reply.calls[0].is_empty(), "{reply:?}");
    }
    let mut conversation = Conversation { tools: weather(), ..chat("Weather in Rome?", greedy(30)) };
    let call = penstock_domain::ToolCall {
        id: "call_1".into(),
        name: "get_weather".into(),
        arguments: "{\"city\":\"Rome\"}".into(),
    };
    conversation.messages.push(penstock_domain::Message {
        role: Role::Assistant,
        name: None,
        parts: vec![penstock_domain::Part::ToolCall(call)],
    });
    let result = penstock_domain::Part::ToolResult {
        call_id: "call_1".into(),
        parts: vec![penstock_domain::Part::Text("21 degrees, sunny".into())],
        failed: false,
    };
    conversation.messages.push(penstock_domain::Message {
        role: Role::Tool,
        name: None,
        parts: vec![result],
    });
    conversation.messages.push(message(Role::User, "So how is it?"));
    ask(&local(), Content::Chat(conversation)).await.unwrap();
}

#[tokio::test]
async fn schemas_that_cannot_be_kept_are_refused() {
    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let wide: serde_json::Map<String, Value> =
        (0..20_000).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect();
    let schemas = [
        json!(true),
        json!({"type": "nonsense"}),
        json!({"$ref": "https://example.com/schema.json"}),
        json!({"$ref": "#/$defs/missing"}),
        json!({"type": "object", "properties": wide}),
        json!({"type": "string", "pattern": "(("}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        deep,
    ];
    for schema in schemas {
        let begun = Instant::now();
        let error = ask(&local(), shaped("hi", &schema, greedy(4)))
            .await
            .err()
            .unwrap_or_else(|| panic!("{schema} was accepted"));
        assert!(matches!(error.code(), Code::InvalidValue | Code::InvalidRequest), "{error}");
        assert!(error.say().contains("schema"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn costly_schemas_neither_hang_nor_stop_others() {
    let bombs = [
        json!({"type": "string", "pattern": "^(a+)+(b+)+(c+)+(a|b|c){1,400}$"}),
        json!({"type": "string", "pattern": "^((((a{1,60}){1,60}){1,60}){1,60}){1,60}$"}),
        json!({"type": "array", "minItems": 100_000_000, "items": {"type": "string", "minLength": 100_000_000}}),
        json!({"$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}}, "$ref": "#/$defs/n"}),
        json!({"type": "string", "pattern": "(.*a.*b.*c.*d.*e.*f.*){20}"}),
    ];
    for bomb in bombs {
        let begun = Instant::now();
        let shaped = tokio::spawn(async move {
            ask(&local(), shaped("hi", &bomb, greedy(12))).await.map(|reply| reply.texts)
        });
        let other =
            ask(&local(), Content::Chat(chat("What is the capital of France?", greedy(8)))).await.unwrap();
        let others = begun.elapsed();
        let end = shaped.await.unwrap();
        println!(
            "bomb: {:?} in {:?}; the other answer took {others:?}",
            end.map_err(|error| error.say().to_owned()),
            begun.elapsed()
        );
        assert!(!other.text().is_empty());
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
