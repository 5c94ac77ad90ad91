use std::sync::Arc;

use parking_lot::Mutex;
use penstock_domain::Code;

use super::*;
use crate::sink::tests::record;

/// What was written, one entry per write.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<String>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().push(String::from_utf8(bytes.to_vec()).expect("UTF-8"));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writes for these records, with everything of `penstock::request` wanted from this level on.
fn written(format: Format, level: Level, records: &[Record]) -> Vec<String> {
    let paper = Paper::default();
    let mut lines = Lines::new(format, Box::new(paper.clone()));
    let subscriber = tracing_subscriber::fmt().with_max_level(level).finish();
    tracing::subscriber::with_default(subscriber, || lines.write(records).expect("written"));
    std::mem::take(&mut *paper.0.lock())
}

fn dated() -> Record {
    let mut record = record();
    // 2024-02-29T23:59:59.970
    record.at = UNIX_EPOCH + Duration::from_millis(1_709_251_199_970 - 30);
    record
}

#[test]
fn a_line_of_json_has_the_members_of_every_other_line_and_the_record() {
    let all = written(Format::Json, Level::INFO, &[dated()]);
    let expected = r#"{"timestamp":"2024-02-29T23:59:59.970000Z","level":"INFO","message":"request","request":"req_test","operation":"chat","stream":true,"model":"large","provider":"vendor","attempts":1,"input_tokens":5,"output_tokens":3,"duration_ms":30.000,"first_token_ms":10.000,"code":"ok","target":"penstock::request"}"#;
    assert_eq!(all, [format!("{expected}\n")]);
}

#[test]
fn a_line_of_text_reads_like_every_other_line() {
    let all = written(Format::Text, Level::INFO, &[dated()]);
    assert!(
        all[0].starts_with("2024-02-29T23:59:59.970000Z  INFO penstock::request: request request=\"req_test\" operation=\"chat\" stream=true "),
        "{all:?}"
    );
    assert!(all[0].ends_with(" duration_ms=30.000 first_token_ms=10.000 code=\"ok\"\n"), "{all:?}");
}

#[test]
fn nothing_that_was_sent_begins_a_new_line_or_leaves_its_quotes() {
    let mut record = dated();
    let say = "a \"model\"\n{\"level\":\"INFO\"}\r\u{1b}[2J\\";
    record.outcome = Outcome::Refused(Error::new(Code::ModelNotFound, say));
    for format in [Format::Json, Format::Text] {
        let all = written(format, Level::INFO, std::slice::from_ref(&record));
        assert_eq!(all[0].matches('\n').count(), 1);
        let told = r#""a \"model\"\n{\"level\":\"INFO\"}\u000d\u001b[2J\\""#;
        assert!(all[0].contains(told), "{all:?}");
    }
    let json = written(Format::Json, Level::INFO, &[record]).remove(0);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["error"], say);
}

#[test]
fn a_batch_is_one_write_and_what_is_not_wanted_is_none() {
    let mut broken = dated();
    broken.outcome = Outcome::Failed(Error::new(Code::UpstreamStreamCut, "cut"));
    let batch = [dated(), broken, dated()];
    let all = written(Format::Json, Level::INFO, &batch);
    assert_eq!((all.len(), all[0].lines().count()), (1, 3));
    let all = written(Format::Json, Level::WARN, &batch);
    assert!(all.len() == 1 && all[0].lines().count() == 1 && all[0].contains("\"WARN\""), "{all:?}");
    assert!(written(Format::Json, Level::ERROR, &batch).is_empty());
}

#[test]
fn days_are_those_of_the_calendar() {
    for (since, text) in [
        (0, "1970-01-01T00:00:00"),
        (951_782_400, "2000-02-29T00:00:00"),
        (1_735_689_599, "2024-12-31T23:59:59"),
        (4_107_542_400, "2100-03-01T00:00:00"),
    ] {
        assert_eq!(String::from_utf8_lossy(&second(since)), text);
    }
}
