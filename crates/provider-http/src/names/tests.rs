use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{advance, sleep};

use super::*;

/// What a name server does with a question.
#[derive(Clone)]
enum Says {
    At(&'static str),
    /// NXDOMAIN, SERVFAIL: the system's resolver gives both as an error.
    No,
    /// The same answer, late.
    Late(Duration, &'static str),
    /// Nothing, ever.
    Silence,
}

#[derive(Clone)]
struct Server(Arc<(Mutex<Says>, AtomicUsize)>);

impl Server {
    fn new(says: Says) -> (Self, Names) {
        let server = Self(Arc::new((Mutex::new(says), AtomicUsize::new(0))));
        (server.clone(), Names::over(server))
    }

    fn now(&self, says: Says) {
        *self.0.0.lock() = says;
    }

    fn asked(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Lookup for Server {
    fn look(&self, _: &str) -> Looking {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        let says = self.0.0.lock().clone();
        Box::pin(async move {
            let at = |text: &str| Ok(vec![SocketAddr::new(text.parse().expect("an address"), 0)]);
            match says {
                Says::At(text) => at(text),
                Says::No => Err(io::Error::other("NXDOMAIN")),
                Says::Late(time, text) => {
                    sleep(time).await;
                    at(text)
                }
                Says::Silence => std::future::pending().await,
            }
        })
    }
}

async fn find(names: &Names) -> Option<String> {
    let found = names.clone().find("vendor.test".to_owned()).await;
    found.ok().map(|addresses| addresses[0].ip().to_string())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_ten_seconds_and_then_asked_for_anew() {
    let (server, names) = Server::new(Says::At("10.0.0.1"));
    for _ in 0..5 {
        assert_eq!(find(&names).await, some("10.0.0.1"));
    }
    assert_eq!(server.asked(), 1);
    server.now(Says::At("10.0.0.2"));
    advance(FRESH).await;
    assert_eq!((find(&names).await, server.asked()), (some("10.0.0.2"), 2));
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_outlives_a_name_server_that_fails_for_an_hour_and_no_longer() {
    for fails in [Says::No, Says::Silence] {
        let (server, names) = Server::new(Says::At("10.0.0.1"));
        assert_eq!(find(&names).await, some("10.0.0.1"));
        server.now(fails.clone());
        advance(STALE - Duration::from_secs(1)).await;
        let begun = Instant::now();
        assert_eq!(find(&names).await, some("10.0.0.1"));
        assert!(begun.elapsed() <= PATIENCE, "{:?}", begun.elapsed());
        advance(Duration::from_secs(2)).await;
        let late = tokio::time::timeout(Duration::from_secs(60), find(&names)).await;
        assert!(matches!(late, Ok(None) | Err(_)), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_never_found_is_an_error_at_once() {
    let (server, names) = Server::new(Says::No);
    assert_eq!(find(&names).await, None);
    server.now(Says::At("10.0.0.1"));
    assert_eq!(find(&names).await, some("10.0.0.1"), "a failure is not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_slow_name_server_delays_by_half_a_second_at_most_and_its_answer_is_kept() {
    let (server, names) = Server::new(Says::At("10.0.0.1"));
    find(&names).await;
    advance(FRESH).await;
    server.now(Says::Late(Duration::from_secs(3), "10.0.0.2"));
    let begun = Instant::now();
    assert_eq!(find(&names).await, some("10.0.0.1"));
    assert_eq!(begun.elapsed(), PATIENCE);
    sleep(Duration::from_secs(3)).await;
    assert_eq!((find(&names).await, server.asked()), (some("10.0.0.2"), 2));
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_are_one_question() {
    let (server, names) = Server::new(Says::Late(Duration::from_secs(1), "10.0.0.1"));
    let all = (0..100).map(|_| find(&names));
    for found in futures_util::future::join_all(all).await {
        assert_eq!(found, some("10.0.0.1"));
    }
    assert_eq!(server.asked(), 1);
    // Those who leave do not take the question with them.
    server.now(Says::Late(Duration::from_secs(1), "10.0.0.2"));
    advance(STALE).await;
    assert!(tokio::time::timeout(Duration::from_millis(10), find(&names)).await.is_err());
    assert_eq!((find(&names).await, server.asked()), (some("10.0.0.2"), 2));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_cannot_be_reached_is_asked_for_anew() {
    let (server, names) = Server::new(Says::At("10.0.0.1"));
    let begun = Instant::now();
    find(&names).await;
    assert!(!names.moved("vendor.test", begun).await, "it was asked for after the connection began");
    advance(Duration::from_secs(1)).await;
    assert!(!names.moved("vendor.test", Instant::now()).await, "it leads where it led");
    server.now(Says::At("10.0.0.2"));
    advance(Duration::from_secs(1)).await;
    assert!(names.moved("vendor.test", Instant::now()).await);
    assert_eq!((find(&names).await, server.asked()), (some("10.0.0.2"), 3));
}
