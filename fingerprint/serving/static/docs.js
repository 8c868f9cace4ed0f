// Renders openapi.json as a page, without a JavaScript library.
import { $, el } from "./dom.js";

const description = await (await fetch("openapi.json")).json();

function rows(parameters) {
  return parameters.map((one) => el("tr", {}, el("td", {}, el("code", {}, one.name)),
    el("td", {}, [kind(one.schema), one.description].filter(Boolean).join(". "))));
}

function kind(schema = {}) {
  const type = schema.enum?.join(" | ") ?? schema.type ?? "";
  const bounds = [schema.minimum, schema.maximum].every((one) => one !== undefined) ? ` ${schema.minimum} to ${schema.maximum}` : "";
  return type + bounds + (schema.default === undefined || schema.default === "" ? "" : `, default ${schema.default}`);
}

const marked = (text) => text.split("`").map((part, number) => (number % 2 ? el("code", {}, part) : part));

for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const answers = Object.entries(about.responses).map(([status, one]) =>
      el("tr", {}, el("td", {}, status), el("td", {}, one.description)));
    const [good] = Object.entries(about.responses).filter(([status]) => status.startsWith("2"));
    const example = Object.values(good?.[1].content ?? {}).find((one) => one.example)?.example;
    $("operations").append(el("article", {}, el("h3", {}, el("span", { className: "method" }, method.toUpperCase()), ` ${path}`),
      el("p", {}, ...marked(`${about.summary}. ${about.description ?? ""}`)),
      about.parameters ? el("table", {}, el("tbody", {}, ...rows(about.parameters))) : null,
      el("table", {}, el("tbody", {}, ...answers)),
      example ? el("pre", { tabIndex: 0 }, JSON.stringify(example, null, 1)) : null));
  }
}
