use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use tokio::net::TcpListener;

use super::*;
use crate::names::Lookup;

/// Leads to the first address at first, then to the second.
struct Moves(&'static str, &'static str, AtomicUsize);

impl Lookup for Moves {
    fn look(&self, _: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        let first = self.2.fetch_add(1, Ordering::SeqCst) == 0;
        let text = if first { self.0 } else { self.1 };
        Box::pin(async move { Ok(vec![SocketAddr::new(text.parse().expect("an address"), 0)]) })
    }
}

fn dial(port: u16, lookup: Moves) -> Dial {
    let origin = format!("http://vendor.test:{port}/").parse().expect("a URI");
    Dial::by(origin, Duration::from_secs(5), Tls::System, Names::over(lookup))
}

#[tokio::test]
async fn a_vendor_that_moved_to_another_address_is_found_there_at_once() {
    let old = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = old.local_addr().expect("an address").port();
    let new = TcpListener::bind(("127.0.0.2", port)).await.expect("the same port elsewhere");
    let dial = dial(port, Moves("127.0.0.1", "127.0.0.2", AtomicUsize::new(0)));
    assert!(dial.open().await.is_ok());
    drop(old);
    assert!(dial.open().await.is_ok());
    assert!(new.accept().await.is_ok());
}

#[tokio::test]
async fn a_vendor_that_is_gone_is_not_dialled_for_ever() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let dial = dial(port, Moves("127.0.0.1", "127.0.0.1", AtomicUsize::new(0)));
    for _ in 0..3 {
        assert!(dial.open().await.is_err());
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_is_noticed_by_the_socket_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let opened = dial(port, Moves("127.0.0.1", "127.0.0.1", AtomicUsize::new(0))).open().await.expect("open");
    let MaybeHttpsStream::Http(tcp) = opened.io.inner().io.inner() else { panic!("no TLS was asked for") };
    let socket = socket2::SockRef::from(tcp.inner());
    assert!(socket.keepalive().expect("an option"), "an idle connection is probed");
    #[cfg(target_os = "linux")]
    {
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), PROBE_EVERY);
        let unacknowledged = socket.tcp_user_timeout().expect("an option").expect("a bound");
        assert!(unacknowledged <= PROBE_EVERY + PROBE_ANSWER, "{unacknowledged:?}");
    }
}
