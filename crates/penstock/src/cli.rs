//! What the user types.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Self-hosted gateway between API clients and AI models.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start with no configuration: write one, find providers, make a first key, serve.
    Up(Up),
    /// Start with a configuration file.
    Serve(Serve),
    /// Check a configuration file and print every problem at once.
    Check(Check),
    /// Print the configuration's JSON Schema, or the effective configuration with secrets hidden.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Create, list, rotate and revoke API keys.
    #[command(subcommand)]
    Keys(KeysVerb),
    /// Create, list, show, change and delete teams: what their keys may ask for and spend together.
    #[command(subcommand)]
    Teams(TeamsVerb),
    /// List who is signed in with a browser, and end sessions.
    #[command(subcommand)]
    Sessions(SessionsVerb),
    /// Ask one question and stream the answer to the terminal.
    Chat(Chat),
    /// Run a scripted model server that speaks the OpenAI and Anthropic dialects, with faults on demand.
    Mock(Mock),
    /// Say what is wrong with this installation and how to mend it.
    Doctor(Doctor),
    /// Say what happened to one request: who asked, every stage and call, tokens, cost, and why it ended as it did.
    Explain(Explain),
    /// Add up what was spent, by the ledger.
    Spend(Spend),
    /// List who changed what and who was turned away, and check that nothing of it was altered.
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Print the OpenAPI document of the API.
    Openapi,
    /// Print the completion script of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "penstock.yaml", env = "PENSTOCK_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Listen here instead of where the file says.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Listen here instead of where the file says.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Also ask every provider whether it can be reached.
    #[arg(long)]
    pub(crate) online: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Print the effective configuration with secrets hidden.
    Show(ConfigFile),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// Make a key and print it once.
    Create(CreateKey),
    /// List the keys; the keys themselves are not stored and cannot be shown.
    List(ListKeys),
    /// Give a key a new secret.
    Rotate(RotateKey),
    /// Make a key useless at once, or all keys of an owner or a team.
    Revoke(RevokeKey),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsVerb {
    /// List who is signed in.
    List(ListSessions),
    /// End sessions at once: one, all of a person, or all.
    End(EndSessions),
}

#[derive(Debug, Args)]
pub(crate) struct ListSessions {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EndSessions {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The session's id.
    #[arg(required_unless_present_any = ["subject", "all"], conflicts_with_all = ["subject", "all"])]
    pub(crate) id: Option<String>,
    /// All sessions of a person, as their issuer names them.
    #[arg(long, value_name = "SUBJECT", conflicts_with = "all")]
    pub(crate) subject: Option<String>,
    /// All sessions of everybody.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TeamsVerb {
    /// Make a team.
    Create(ChangeTeam),
    /// List the teams, those of the configuration file included.
    List(ListTeams),
    /// Show a team with its settings.
    Show(ShowTeam),
    /// Change settings of a team; what is not named stays.
    Update(ChangeTeam),
    /// Delete a team that has no active keys.
    Delete(ShowTeam),
}

#[derive(Debug, Args)]
pub(crate) struct ListTeams {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowTeam {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The team's name.
    pub(crate) name: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeTeam {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The team's name.
    pub(crate) name: String,
    /// Limits of all its keys together: 60rpm, 10000tpm, 4concurrent, … as for keys; may be repeated.
    #[arg(long = "limit", value_name = "LIMIT")]
    pub(crate) limits: Vec<String>,
    /// What its keys may spend together, in US dollars per day, month or lifetime: 500/month.
    #[arg(long, value_name = "BUDGET")]
    pub(crate) budget: Option<String>,
    /// A region that its requests never leave; may be repeated.
    #[arg(long, value_name = "REGION")]
    pub(crate) residency: Vec<String>,
    /// Whether its requests go to internal providers alone.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) internal_only: Option<bool>,
    /// Any other setting of a team as a path and JSON: capture.content=true; null takes one away; may be repeated.
    #[arg(long = "set", value_name = "PATH=JSON")]
    pub(crate) set: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List the newest rows.
    List(ListAudit),
    /// Check every row; exit code 1 and the first row that is wrong when one is.
    Verify(VerifyAudit),
}

#[derive(Debug, Args)]
pub(crate) struct ListAudit {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: u32,
    /// Print JSON, one row a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyAudit {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateKey {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// A name for lists and logs.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Whose key it is.
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
    /// Who answers for it: a person's subject or e-mail address, or the name of a service account.
    #[arg(long, value_name = "OWNER")]
    pub(crate) owner: Option<String>,
    /// What the owner is: user or service.
    #[arg(long, value_name = "KIND", requires = "owner")]
    pub(crate) kind: Option<String>,
    /// What it may do, as family:action[:name]; may be repeated. Default: every model by every inference route.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Which models it may use; a trailing * stands for any ending; may be repeated. Default: all.
    #[arg(long = "model", value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Limits: 60rpm, 600rph, 5000rpd (requests per minute, hour, day), 10000tpm, … (tokens), 8000itpm, 2000otpm, … (tokens
    /// of prompts, of answers), 4concurrent (requests in flight); may be repeated.
    #[arg(long = "limit", value_name = "LIMIT")]
    pub(crate) limits: Vec<String>,
    /// What it may spend, in US dollars per day, month or lifetime: 5/day.
    #[arg(long, value_name = "BUDGET")]
    pub(crate) budget: Option<String>,
    /// An address or a range that it may be sent from, such as 10.0.0.0/8; may be repeated. Default: everywhere.
    #[arg(long = "allow-ip", value_name = "RANGE")]
    pub(crate) allow_ips: Vec<penstock_config::IpRange>,
    /// How urgent its requests are where they have to wait for their turn: interactive, standard or batch. Default: as its team's.
    #[arg(long, value_name = "PRIORITY")]
    pub(crate) priority: Option<String>,
    /// When it stops working: 30d, 12h or an RFC 3339 time.
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListKeys {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose keys are meant.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// Keys of this owner.
    #[arg(long, value_name = "OWNER")]
    pub(crate) owner: Option<String>,
    /// Keys of this team.
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RotateKey {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The key's id or name.
    pub(crate) key: String,
    /// How long the old secret goes on working, such as 1h. Default: not at all.
    #[arg(long, value_name = "TIME")]
    pub(crate) overlap: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeKey {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The key's id or name.
    #[arg(required_unless_present_any = ["owner", "team"], conflicts_with_all = ["owner", "team"])]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The model to ask. Default: the first that the key may use.
    #[arg(long, short, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// The gateway's address. Default: where the configuration listens.
    #[arg(long, value_name = "ADDR", env = "PENSTOCK_ADDRESS")]
    pub(crate) address: Option<SocketAddr>,
    /// The API key. Default: the one in penstock-data/admin.key.
    #[arg(long, value_name = "KEY", env = "PENSTOCK_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// The question.
    pub(crate) text: String,
}

#[derive(Debug, Args)]
pub(crate) struct Mock {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100")]
    pub(crate) listen: SocketAddr,
    /// A JSON file of rules: how to answer, how slowly, with which faults.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The request's id, as in the response header x-request-id.
    #[arg(value_name = "REQUEST_ID")]
    pub(crate) id: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Spend {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// What to add up by: key, team, model, hour, or tag:NAME for the values of a label.
    #[arg(long, value_name = "BY", default_value = "key")]
    pub(crate) by: String,
    /// From when: a day, an RFC 3339 time, or how long ago, such as 24h. Default: 30 days ago.
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<String>,
    /// Until when. Default: now.
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: Option<String>,
    /// Print CSV.
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
