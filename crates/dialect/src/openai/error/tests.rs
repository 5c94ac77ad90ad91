use penstock_domain::Code;
use serde_json::{Value, json};

use super::*;

#[test]
fn a_body_has_the_four_members_and_ours() {
    let error = Error::new(Code::InvalidValue, "`n` must be \"small\"").with_param("n");
    let body: Value = serde_json::from_slice(&error_body(&error, &RequestId::new("req_7"))).unwrap();
    let expected = json!({"error": {
        "message": "`n` must be \"small\"", "type": "invalid_request_error", "param": "n", "code": "invalid_value",
        "penstock": {"request_id": "req_7", "docs_url": "/docs/errors/invalid_value"},
    }});
    assert_eq!(body, expected);
}

#[test]
fn every_code_has_a_body_with_a_type() {
    for &code in Code::ALL {
        let body: Value =
            serde_json::from_slice(&error_body(&Error::new(code, "x"), &RequestId::new("r"))).unwrap();
        let kind = body["error"]["type"].as_str().unwrap();
        assert!(kind.ends_with("_error") || code == Code::BudgetExceeded, "{code}: {kind}");
        assert!(body["error"]["param"].is_null());
    }
}
