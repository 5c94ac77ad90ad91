//! Who may do what, as one database keeps it: keys, teams, and those who signed in.

use std::sync::Arc;

use penstock_config::{Config, Problem};
use penstock_domain::{Code, Error};
use penstock_identity::{Doorkeeper, Keys, Sessions, SignIn, Teams, redirect_uri};
use penstock_identity_oidc::OidcDoorkeeper;

use crate::stores::Stores;
use crate::wiring;

/// The services over one database.
pub(crate) struct People {
    pub(crate) keys: Arc<Keys>,
    pub(crate) teams: Arc<Teams>,
    pub(crate) sessions: Arc<Sessions>,
}

impl People {
    /// Opens the database of the configuration, and reads what is in it and in the file.
    ///
    /// # Errors
    /// `store_unavailable`, with a sentence on the mend.
    pub(crate) async fn open(config: &Config, stores: &Stores) -> Result<Self, Error> {
        let ((keys, teams, sessions), pepper) = stores.people(config).await?;
        let (keys, teams) = (Arc::new(Keys::new(keys, pepper)), Arc::new(Teams::new(teams)));
        let sessions = Arc::new(Sessions::new(sessions, keys.ring()));
        let people = Self { keys, teams, sessions };
        people.refresh().await?;
        people.teams.use_file(&config.teams);
        wiring::use_file_keys(&people.keys, config).map_err(|problems| {
            let say =
                problems.first().map_or("the keys of the file cannot be used", |problem| &problem.message);
            Error::new(Code::InvalidRequest, say)
        })?;
        Ok(people)
    }

    /// Reads what other processes changed. Whether it was anything.
    ///
    /// # Errors
    /// `store_unavailable`; what was known stays.
    pub(crate) async fn refresh(&self) -> Result<bool, Error> {
        // Teams first: a key that is new must not be without the limits of its team.
        let teams = self.teams.refresh().await?;
        Ok(self.keys.refresh().await? || teams)
    }

    /// Takes the way to sign in of a configuration in place of the one before.
    ///
    /// # Errors
    /// Every problem of the section; nothing is changed then.
    pub(crate) fn use_door(&self, config: &Config) -> Result<(), Vec<Problem>> {
        let Some(login) = &config.auth.admin_login else {
            self.sessions.use_door(None);
            return Ok(());
        };
        let address = address(config);
        let redirect = redirect_uri(&config.auth, login, &address);
        let keeper = OidcDoorkeeper::new(login.clone(), redirect) as Arc<dyn Doorkeeper>;
        let door = SignIn::new(&config.auth, keeper, &address).map_err(wiring::problems_of)?;
        self.sessions.use_door(door);
        Ok(())
    }

    /// A configuration with the teams of the database beside its own.
    pub(crate) fn whole(&self, config: &Config) -> Config {
        Config { teams: self.teams.in_force(), ..config.clone() }
    }
}

/// Where administration is when nobody says.
fn address(config: &Config) -> String {
    format!("http://{}", config.server.admin_listen.unwrap_or(config.server.listen))
}

/// The host and port under which people sign in.
pub(crate) fn console(config: &Config) -> Option<String> {
    let login = config.auth.admin_login.as_ref()?;
    let redirect = redirect_uri(&config.auth, login, &address(config));
    let (_, rest) = redirect.split_once("://")?;
    rest.split('/').next().map(str::to_owned)
}
