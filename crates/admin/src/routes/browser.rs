//! The rows of signing in with a browser.

use penstock_identity::{Method, Needs, Operation, Parameter, Place, Reply, Route};

use super::{Handler, KEYS, READ, asked, ok};

type Row = Route<Handler>;

const DOOR: Needs = Needs::Nothing("whoever signs in has nothing to show yet; it tells nobody anything");
const ISSUER: Needs = Needs::Nothing("the issuer proves itself by the signature of its logout token");
const ID: Parameter = Parameter { name: "id", place: Place::Path, about: "the session's id", kind: "string" };

pub(super) const LOGIN: Row = Route {
    method: Method::Get,
    path: "/admin/login",
    needs: DOOR,
    operation: Operation {
        id: "signIn",
        tag: "sign-in",
        summary: "Leads a browser to the issuer of `auth.admin_login`",
        parameters: &[],
        request: "",
        replies: &[Reply { status: 303, about: "to the issuer", media: "", schema: "" }],
    },
    handler: Handler::SignIn,
};

pub(super) const CALLBACK: Row = Route {
    method: Method::Get,
    path: "/admin/callback",
    needs: DOOR,
    operation: Operation {
        id: "signedIn",
        tag: "sign-in",
        summary: "Takes the issuer's answer, and gives the browser the cookie of a session",
        parameters: &[
            asked("code", "the issuer's code"),
            asked("state", "what the sign-in began with"),
            asked("iss", "who answers (RFC 9207)"),
            asked("error", "why the issuer refused"),
        ],
        request: "",
        replies: &[Reply { status: 200, about: "a page that leads on", media: "text/html", schema: "" }],
    },
    handler: Handler::SignedIn,
};

pub(super) const LOGOUT: Row = Route {
    method: Method::Post,
    path: "/admin/logout",
    needs: READ,
    operation: Operation {
        id: "signOut",
        tag: "sign-in",
        summary: "Ends the session of the cookie",
        parameters: &[],
        request: "",
        replies: &[ok("it is over; `issuer` is where to sign out there too", "SignedOut")],
    },
    handler: Handler::SignOut,
};

pub(super) const BACK_CHANNEL: Row = Route {
    method: Method::Post,
    path: "/admin/backchannel-logout",
    needs: ISSUER,
    operation: Operation {
        id: "backChannelLogout",
        tag: "sign-in",
        summary: "Ends the sessions that the issuer says are over (OpenID Connect Back-Channel Logout 1.0)",
        parameters: &[],
        request: "",
        replies: &[Reply { status: 200, about: "they are over", media: "", schema: "" }],
    },
    handler: Handler::Dismiss,
};

pub(super) const ME: Row = Route {
    method: Method::Get,
    path: "/admin/v1/me",
    needs: READ,
    operation: Operation {
        id: "getMe",
        tag: "sign-in",
        summary: "Says who asks, and gives a session's page the text for the header x-csrf-token",
        parameters: &[],
        request: "",
        replies: &[ok("who asks", "Me")],
    },
    handler: Handler::Me,
};

pub(super) const SESSIONS: Row = Route {
    method: Method::Get,
    path: "/admin/v1/sessions",
    needs: KEYS,
    operation: Operation {
        id: "listSessions",
        tag: "sign-in",
        summary: "Lists everybody who is signed in with a browser, the newest first",
        parameters: &[],
        request: "",
        replies: &[ok("the sessions", "SessionList")],
    },
    handler: Handler::Sessions,
};

pub(super) const END_SESSION: Row = Route {
    method: Method::Delete,
    path: "/admin/v1/sessions/{id}",
    needs: KEYS,
    operation: Operation {
        id: "endSession",
        tag: "sign-in",
        summary: "Ends a session at once",
        parameters: &[ID],
        request: "",
        replies: &[ok("the session that ended", "Session")],
    },
    handler: Handler::EndSession,
};
