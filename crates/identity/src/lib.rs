//! Who is asking, and what they may do.
//!
//! What it is: API keys ([`KeyRecord`], [`Token`], [`Pepper`]), the snapshot that recognises them ([`KeyRing`]), scopes
//! ([`Scope`], [`ScopeSet`], [`Role`]), access tokens of other issuers ([`Tokens`], behind the port [`Prover`]), model allow-lists ([`ModelAllow`]), the one place that reads credentials from headers
//! ([`credential`]), the port under which keys are kept ([`KeyStore`]) and the service over it ([`Keys`]); and
//! [`Route`], the row of a route table, which does not exist without saying what it [`Needs`]; and the log of changes and denials ([`AuditLog`], [`Denials`]).
//!
//! What it promises: a key is recognised by a keyed digest of the whole key, never by a part of it, without a lock and
//! without an allocation; the plain key exists once, in the reply that made it; no scope means no access.
//!
//! What it refuses to know: HTTP, SQL, files, the clock. Time is handed in.

mod audit;
mod caller;
mod claims;
mod denials;
mod extract;
mod keys;
mod leash;
mod models;
mod new;
mod owner;
mod record;
mod ring;
mod route;
mod scope;
mod session;
mod sign_in;
mod store;
mod teams;
mod token;
mod tokens;

pub use audit::{AuditEntry, AuditEvent, AuditLog, AuditPage, Chain, MemoryAudit, Verdict, digest_of};
pub use caller::{Caller, KeyId, KeySource};
pub use claims::{Claims, Inquiry, Prover};
pub use denials::{Denial, Denials};
pub use extract::credential;
pub use keys::{Keys, MAX_OVERLAP, Minted};
pub use leash::Leash;
pub use models::ModelAllow;
pub use new::{Flaw, KeyRequest, NewKey};
pub use owner::{Owner, OwnerKind};
pub use penstock_config::{Budget, IpRange, Limits, Per, Usd};
pub use record::{KeyRecord, Previous, check_name, check_team};
pub use ring::KeyRing;
pub use route::{Method, Needs, Operation, Parameter, Place, Reply, Route};
pub use scope::{KNOWN_SCOPES, Role, Scope, ScopeSet};
pub use session::{Ending, MAX_SESSIONS, Session, SessionStore};
pub use sign_in::{Ask, Begun, Doorkeeper, Opened, Person, Returned, Sessions, SignIn, redirect_uri};
pub use store::{KeyStore, Listing, Pending};
pub use teams::{MAX_TEAMS, TeamListing, TeamRecord, TeamStore, Teams, in_use, read_team};
pub use token::{Digest, Pepper, Token};
pub use tokens::{Resource, Tokens};
