"""The fault catalogue: what may happen to a call, and the tests that prove what happens then.

Each row's tests have its number in their name (`test_a4_01_…`). A row that was proved before, at the place where its code is,
is not proved twice: `ELSEWHERE` names those tests, and this file fails when one of them is gone.

| row | fault | what must happen |
|---|---|---|
| 1 | reset before the headers | the next target, without a wait |
| 2 | reset after the opening, before content | the next target, one clean stream |
| 3 | break in the middle | the dialect's terminal error, what was said is billed |
| 4 | stall in the middle | the idle time ends it |
| 5 | accepts, never answers | the first-token deadline, then the next target |
| 6 | the peer vanished | a deadline and the next target; a reset pooled connection is replaced unseen |
| 7 | trickle | the next target before content |
| 8 | events split and framed in any legal way | the same answer |
| 9 | a malformed event | never forwarded as good |
| 10 | a 200 with an error first, or nothing | a failed attempt, a true status |
| 11 | truncated JSON, wrong length, HTML, gzip garbage | a failed attempt, never a 200 |
| 12 | usage missing, malformed, contradictory | counted here, marked estimated |
| 13 | 429 with a wait | that credential cools, others answer; else the smallest wait |
| 14 | 429 for quota, 401, 402, 403 | the credential is retired until it is changed; never the caller's 401 |
| 15 | 408, 409, 500, 503, 529 | a table per vendor |
| 16 | names that do not resolve | the next target |
| 17 | TLS: expired, wrong name, stall | a failure, no downgrade |
| 18 | slow sockets | closed in time, others unharmed |
| 19 | oversize requests | refused before they are held |
| 20 | decompression bombs | refused unread |
| 27 | pooled clients go during use | nothing breaks |
| 28 | SIGTERM, twice, during start | streams finish or end with a terminal error |
| 29 | damaged configuration on reload | the old one serves |
| 30 | no file descriptors; more requests than there is room for | what is open lives, the rest waits; the least urgent are turned away first |
| 31 | the client vanishes | the vendor's call is cancelled within 100 ms |
| 32 | the client stops reading, or opens no window | bounded memory, back pressure, then it is cut |
| 34 | a panic | contained, 500, everything given back |
| 38 | a malformed price table | the last good one, loudly |
"""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The rows of the catalogue that concern calls; the others concern jobs, stores and several processes.
ROWS = (*range(1, 21), *range(27, 33), 34, 38)
ELSEWHERE: dict[int, tuple[str, ...]] = {
    3: ("crates/provider-http/tests/it/streams.rs::a_stream_cut_at_any_byte_never_ends_clean",
        "crates/dialect/src/bedrock/tests.rs::a_stream_cut_at_any_byte_is_never_complete",
        "tests/sdk/python/test_errors.py::test_a_stream_cut_at_any_byte_is_never_taken_for_a_whole_answer",
        "tests/upstream/test_bedrock.py::test_a_broken_stream_raises_in_both_sdks"),
    4: ("tests/blackbox/test_robustness.py::test_a_provider_answering_from_a_stopped_process_times_out_and_others_go_on",),
    6: ("crates/provider-http/tests/it/connections.rs::a_pooled_connection_that_the_vendor_closed_is_replaced_unseen",),
    8: ("crates/dialect/tests/it/fuzz.rs::any_bytes_in_any_chunks_decode_as_the_standard_says",
        "crates/dialect/src/sse/tests.rs::an_event_above_the_bound_breaks_the_stream_in_every_chunking",
        "tests/sdk/python/test_chat.py::test_any_legal_chunking_of_the_vendors_stream_gives_the_same_answer"),
    12: ("tests/blackbox/test_records.py::test_usage_that_a_vendor_leaves_out_or_contradicts_is_counted_here_and_marked",
         "tests/blackbox/test_records.py::test_after_every_fault_each_token_is_the_vendors_own_or_marked_estimated"),
    13: ("crates/provider-http/tests/it/failures.rs::a_rate_limit_carries_its_wait_in_each_of_its_spellings",),
    14: ("tests/sdk/python/test_errors.py::test_the_vendors_refusal_of_our_credential_is_not_the_callers_fault",),
    17: ("crates/provider-http/tests/it/tls.rs::a_certificate_of_another_name_or_another_authority_is_refused",
         "crates/provider-http/tests/it/tls.rs::a_certificate_that_has_expired_is_refused_and_nothing_is_sent",
         "crates/provider-http/tests/it/failures.rs::a_handshake_that_stalls_ends_with_the_connect_time"),
    18: ("crates/edge/tests/it/hostile.rs::a_head_that_does_not_end_is_closed_while_others_are_served",
         "crates/edge/tests/it/hostile.rs::a_body_that_trickles_is_408",
         "crates/edge/tests/it/hostile.rs::connections_beyond_the_cap_wait_their_turn"),
    19: ("tests/blackbox/test_robustness.py::test_a_gigabyte_of_chunks_is_cut_off_at_the_limit",
         "tests/blackbox/test_robustness.py::test_deep_json_is_refused_and_not_recursed_into",
         "crates/edge/tests/it/hostile.rs::heads_that_are_too_large_are_431"),
    20: ("crates/edge/tests/it/bad_input.rs::other_media_and_compressed_bodies_are_415",),
    28: ("tests/blackbox/test_robustness.py::test_signals_are_handled_from_the_moment_the_port_is_open",
         "tests/blackbox/test_robustness.py::test_a_stream_longer_than_the_drain_ends_with_a_proper_error",
         "crates/edge/tests/it/two.rs::streams_end_with_a_terminal_error_when_the_grace_is_over"),
    29: ("tests/blackbox/test_config.py::test_streams_in_flight_survive_a_hundred_reloads",
         "tests/blackbox/test_config.py::test_a_deleted_file_harms_nothing"),
    31: ("crates/provider-http/tests/it/streams.rs::dropping_the_answer_closes_the_vendors_connection_within_100_ms",
         "crates/provider-http/tests/it/tls.rs::dropping_an_http_2_answer_resets_its_stream_within_100_ms_and_no_other"),
    30: ("crates/edge/tests/it/load.rs::batch_work_is_turned_away_first_and_interactive_work_last",),
    32: ("crates/edge/tests/it/hostile.rs::a_client_that_does_not_read_stops_the_provider_and_is_closed",
         "crates/edge/tests/it/two.rs::a_stream_without_window_is_reset_in_time_and_others_go_on"),
    34: ("crates/edge/tests/it/bad_input.rs::a_panic_is_500_is_recorded_once_and_the_next_request_is_fine",),
    38: ("tests/blackbox/test_money.py::test_a_malformed_price_keeps_the_old_table_and_a_good_one_replaces_it",),
}


def test_every_row_of_the_catalogue_has_a_test() -> None:
    here = "\n".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_faults_*.py"))
    own = {int(row) for row in re.findall(r"^def test_a4_(\d\d)_", here, re.M)}
    assert own <= set(ROWS)
    assert [row for row in ROWS if row not in own and row not in ELSEWHERE] == []


def test_the_tests_that_are_named_elsewhere_are_there() -> None:
    gone = []
    for names in ELSEWHERE.values():
        for name in names:
            path, _, function = name.partition("::")
            if not re.search(rf"\bfn {function}\(|\bdef {function}\(", (ROOT / path).read_text()):
                gone.append(name)
    assert not gone
