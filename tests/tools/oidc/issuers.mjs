// Two issuers of access tokens in one process: a certified one (oidc-provider), and one that signs whatever it is told to
// (oauth2-mock-server). Arguments: the ports of both, and the port on which the second one is told, and
// the port of the gateway that people sign in to. Prints a line when ready.

import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { OAuth2Server } from "oauth2-mock-server";
import Provider from "oidc-provider";

const [certified, forging, control, gateway] = process.argv.slice(2).map(Number);

const key = (kid, alg, type, options) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }), kid, alg, use: "sig",
});

const provider = new Provider(`http://127.0.0.1:${certified}`, {
  clients: [{
    client_id: "app",
    client_secret: "a-secret-of-this-test-alone",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  }, {
    // People who sign in to administer.
    client_id: "console",
    client_secret: "the-console-s-secret-of-this-test",
    grant_types: ["authorization_code"],
    redirect_uris: [`http://127.0.0.1:${gateway}/admin/callback`],
    response_types: ["code"],
    backchannel_logout_uri: `http://127.0.0.1:${gateway}/admin/backchannel-logout`,
    backchannel_logout_session_required: true,
  }],
  // Whoever signs in by a name has that name's groups.
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, groups: [id, "everybody"] }),
  }),
  claims: { openid: ["sub", "groups", "sid"], email: ["email"] },
  conformIdTokenClaims: false,
  cookies: { keys: ["a-key-of-this-test-alone"] },
  pkce: { required: () => true },
  // Its own refuses addresses of this machine, where the gateway of these tests is.
  fetch: (url, options) => {
    const { dispatcher, ...plain } = options ?? {};
    return fetch(url, plain);
  },
  scopes: ["chat:invoke", "models:read"],
  jwks: { keys: [key("rsa", "RS256", "rsa", { modulusLength: 2048 }), key("ec", "ES256", "ec", { namedCurve: "P-256" })] },
  extraTokenClaims: () => ({ team: "support" }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      defaultResource: () => undefined,
      getResourceServerInfo: (_, resource) => ({
        scope: "chat:invoke models:read",
        // Two services: a token for one is not for the other.
        audience: resource.endsWith("/other") ? "other" : "penstock",
        accessTokenFormat: resource.endsWith("/opaque") ? "opaque" : "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: resource.endsWith("/es256") ? "ES256" : "RS256" } },
      }),
    },
  },
});
provider.on("backchannel.error", (_, error) => console.log("backchannel", error));
provider.on("server_error", (_, error) => console.log(error));
provider.listen(certified, "127.0.0.1");

const forge = new OAuth2Server();
await forge.issuer.keys.generate("RS256", { kid: "first" });
await forge.start(forging, "127.0.0.1");
forge.issuer.url = `http://127.0.0.1:${forging}`;

// POST /sign {header, claims, kid}: what is null is left out. POST /rotate {kid}: a new key beside the others.
createServer(async (request, response) => {
  let text = "";
  for await (const piece of request) text += piece;
  const told = JSON.parse(text || "{}");
  let answer = {};
  try {
    if (request.url === "/rotate") {
      await forge.issuer.keys.generate("RS256", { kid: told.kid });
    } else {
      const merge = (into, from = {}) => {
        for (const [name, value] of Object.entries(from)) {
          if (value === null) delete into[name];
          else into[name] = value;
        }
      };
      answer.token = await forge.issuer.buildToken({
        kid: told.kid ?? "first",
        scopesOrTransform: (header, claims) => {
          merge(header, { typ: "at+jwt", ...told.header });
          merge(claims, { sub: "alice", aud: "penstock", scope: "chat:invoke", ...told.claims });
        },
      });
    }
    response.writeHead(200);
  } catch (error) {
    answer = { error: String(error) };
    response.writeHead(500);
  }
  response.end(JSON.stringify(answer));
}).listen(control, "127.0.0.1", () => console.log("ready"));
