//! The servers that gateways share, for the variants that have them: a Redis and a PostgreSQL of the rig's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use penstock_testkit::Postgres;

use crate::Trouble;
use crate::target::{free, spawn};

/// How long Redis may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// The servers of one rig; they end with it.
#[derive(Debug)]
pub(crate) struct Stores {
    redis: Option<Redis>,
    /// A database of its own, and the server, which only has to stay.
    postgres: Option<(String, Postgres)>,
}

#[derive(Debug)]
struct Redis {
    address: SocketAddr,
    url: String,
    child: Child,
}

impl Stores {
    /// Starts what a variant with these marks needs.
    pub(crate) fn start(marks: &[&str]) -> Result<Self, Trouble> {
        let postgres = marks.contains(&"postgres");
        let redis = postgres || marks.contains(&"redis");
        Ok(Self {
            redis: redis.then(Redis::start).transpose()?,
            postgres: postgres.then(|| {
                let server = Postgres::start();
                (server.database(), server)
            }),
        })
    }

    /// The address of Redis, for a configuration.
    pub(crate) fn redis(&self) -> Option<&str> {
        self.redis.as_ref().map(|redis| redis.url.as_str())
    }

    /// The address of the database, for a configuration.
    pub(crate) fn postgres(&self) -> Option<&str> {
        self.postgres.as_ref().map(|(address, _)| address.as_str())
    }

    /// How often Redis was asked to run a script; `None` without Redis.
    pub(crate) fn asked(&self) -> Result<Option<u64>, Trouble> {
        self.redis.as_ref().map(Redis::asked).transpose()
    }
}

impl Redis {
    fn start() -> Result<Self, Trouble> {
        let address = free()?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]);
        let redis = Self { address, url: format!("redis://{address}"), child: spawn(&mut command)? };
        let end = Instant::now() + PATIENCE;
        while let Err(trouble) = redis.info("server") {
            if Instant::now() > end {
                return Err(format!("Redis never answered: {trouble}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    fn info(&self, section: &str) -> Result<String, Trouble> {
        let mut line = TcpStream::connect(self.address)?;
        line.set_read_timeout(Some(PATIENCE))?;
        line.write_all(format!("INFO {section}\r\nQUIT\r\n").as_bytes())?;
        let mut text = String::new();
        line.read_to_string(&mut text)?;
        Ok(text)
    }

    fn asked(&self) -> Result<u64, Trouble> {
        calls(&self.info("commandstats")?)
    }
}

/// How often scripts were called, of what Redis says of its commands.
fn calls(stats: &str) -> Result<u64, Trouble> {
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let count = line.and_then(|line| line.split(',').next());
    Ok(count.map(str::parse).transpose()?.unwrap_or(0))
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_scripts_are_found_among_the_commands() {
        let stats = "# Commandstats\r\ncmdstat_hget:calls=9,usec=1\r\ncmdstat_evalsha:calls=4711,usec=12\r\n";
        assert_eq!(calls(stats).expect("a count"), 4711);
        assert_eq!(calls("# Commandstats\r\n").expect("none yet"), 0);
        assert!(calls("cmdstat_evalsha:calls=many,").is_err());
    }
}
