"use strict";
// Renders openapi.json. Everything is written as text, never as markup.
const make = (name, text, ...children) => {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
};

const follow = (api, schema) =>
  schema && schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] || {} : schema || {};

const kind = (schema) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.oneOf) return schema.oneOf.map(kind).join(" | ");
  if (schema.type === "array") return "array of " + kind(schema.items || {});
  return [].concat(schema.type || "any").join(" | ");
};

const members = (api, schema) => {
  const full = follow(api, schema);
  const table = make("table");
  for (const [name, member] of Object.entries(full.properties || {})) {
    const must = (full.required || []).includes(name) ? "required" : "";
    table.append(make("tr", "", make("td", "", make("code", name)), make("td", kind(member)), make("td", must), make("td", member.description)));
  }
  return table;
};

const example = (path, method, operation) => {
  const lines = ["curl " + location.origin + path];
  if (operation.security && operation.security.length) lines.push('  -H "Authorization: Bearer $PENSTOCK_KEY"');
  if (operation.requestBody) lines.push("  --json @body.json");
  else if (method !== "get") lines[0] = lines[0].replace("curl", "curl -X " + method.toUpperCase());
  return make("pre", lines.join(" \\\n"));
};

const show = (api, path, method, operation) => {
  const line = make("summary", "", make("span", method.toUpperCase()), make("code", path), " " + operation.summary);
  line.firstChild.className = "method";
  const box = make("details", "", line);
  if (operation["x-penstock-scope"]) box.append(make("p", "Needs the scope " + operation["x-penstock-scope"]));
  if (operation["x-penstock-open"]) box.append(make("p", "Needs no key: " + operation["x-penstock-open"]));
  if (operation.parameters.length) {
    box.append(make("h4", "Parameters"));
    const table = make("table");
    for (const one of operation.parameters)
      table.append(make("tr", "", make("td", "", make("code", one.name)), make("td", one.in), make("td", one.description)));
    box.append(table);
  }
  if (operation.requestBody) {
    box.append(make("h4", "Body"));
    for (const content of Object.values(operation.requestBody.content)) box.append(members(api, content.schema));
  }
  box.append(make("h4", "Answers"));
  for (const [status, answer] of Object.entries(operation.responses)) {
    box.append(make("p", status + ": " + answer.description));
    for (const [media, content] of Object.entries(answer.content || {}))
      box.append(make("details", "", make("summary", media + " " + (content.schema ? kind(content.schema) : "")), members(api, content.schema)));
  }
  box.append(make("h4", "Try it"), example(path, method, operation));
  return box;
};

fetch("/openapi.json").then((answer) => answer.json()).then((api) => {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(item)) {
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, make("section", "", make("h2", tag)));
      groups.get(tag).append(show(api, path, method, operation));
    }
  document.getElementById("api").append(...groups.values());
}).catch((error) => document.getElementById("api").append(make("p", "openapi.json could not be read: " + error)));
