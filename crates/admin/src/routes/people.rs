//! The rows of teams, and of all keys of an owner.

use penstock_identity::{Method, Operation, Parameter, Place, Reply, Route};

use super::{AFTER, Handler, JSON, KEYS, READ, asked, ok};

type Row = Route<Handler>;

const NAME: Parameter =
    Parameter { name: "name", place: Place::Path, about: "the team's name", kind: "string" };
const LIMIT: Parameter = Parameter {
    name: "limit",
    place: Place::Query,
    about: "teams per page, 1 to 200, 50 when left out",
    kind: "integer",
};

/// Filters of the list of keys.
pub(super) const OWNER: Parameter = asked("owner", "keys of this owner alone");
/// See [`OWNER`].
pub(super) const KIND: Parameter = asked("kind", "keys of owners of this kind alone: `user` or `service`");
/// See [`OWNER`].
pub(super) const OF_TEAM: Parameter = asked("team", "keys of this team alone");

pub(super) const REVOKE_KEYS: Row = Route {
    method: Method::Post,
    path: "/admin/v1/keys/revoke",
    needs: KEYS,
    operation: Operation {
        id: "revokeKeys",
        tag: "keys",
        summary: "Ends all keys of an owner or of a team at once; those of the config stay",
        parameters: &[],
        request: "RevokeRequest",
        replies: &[ok("the keys that were revoked", "KeyList")],
    },
    handler: Handler::RevokeKeys,
};

pub(super) const LIST_TEAMS: Row = Route {
    method: Method::Get,
    path: "/admin/v1/teams",
    needs: READ,
    operation: Operation {
        id: "listTeams",
        tag: "teams",
        summary: "Lists teams in the order of their names, those of the config included",
        parameters: &[LIMIT, AFTER],
        request: "",
        replies: &[ok("one page", "TeamList")],
    },
    handler: Handler::ListTeams,
};

pub(super) const CREATE_TEAM: Row = Route {
    method: Method::Post,
    path: "/admin/v1/teams",
    needs: KEYS,
    operation: Operation {
        id: "createTeam",
        tag: "teams",
        summary: "Makes a team; it is in force when this is answered",
        parameters: &[],
        request: "TeamRequest",
        replies: &[Reply { status: 201, about: "the new team", media: JSON, schema: "Team" }],
    },
    handler: Handler::CreateTeam,
};

pub(super) const GET_TEAM: Row = Route {
    method: Method::Get,
    path: "/admin/v1/teams/{name}",
    needs: READ,
    operation: Operation {
        id: "getTeam",
        tag: "teams",
        summary: "Shows a team with what it spent and what is left",
        parameters: &[NAME],
        request: "",
        replies: &[ok("the team", "TeamStanding")],
    },
    handler: Handler::GetTeam,
};

pub(super) const UPDATE_TEAM: Row = Route {
    method: Method::Patch,
    path: "/admin/v1/teams/{name}",
    needs: KEYS,
    operation: Operation {
        id: "updateTeam",
        tag: "teams",
        summary: "Changes the settings that the body names; null takes one away. In force when this is answered",
        parameters: &[NAME],
        request: "TeamSettings",
        replies: &[ok("the team", "Team")],
    },
    handler: Handler::UpdateTeam,
};

pub(super) const DELETE_TEAM: Row = Route {
    method: Method::Delete,
    path: "/admin/v1/teams/{name}",
    needs: KEYS,
    operation: Operation {
        id: "deleteTeam",
        tag: "teams",
        summary: "Removes a team without active keys; what it spent stays in the ledger",
        parameters: &[NAME],
        request: "",
        replies: &[ok("the team as it was", "Team")],
    },
    handler: Handler::DeleteTeam,
};
