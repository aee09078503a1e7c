// What runs where, what is watched for, and where results go.

function table(columns, rows, none) {
  if (!rows.length) return make("p", { class: "quiet" }, none);
  const cell = (value, k) => make("td", { class: columns[k].startsWith("#") ? `number ${value.bad ? "bad" : ""}` : value.bad ? "bad" : "" },
    String(value.text ?? value));
  return make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col", class: name.startsWith("#") ? "number" : "" }, name.replace("#", ""))))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))));
}

const place = (stage) => (stage.fallbacks && stage.fallbacks.length ? `${stage.provider}, ${stage.fallbacks.length} on the CPU` : stage.provider);

// A table is made again only where it changed, or a selection in it would not last a second.
function put(node, content) {
  if (node.firstChild && node.firstChild.isEqualNode(content)) return;
  fill(node, content);
}

function showTables(status) {
  const stages = Object.entries(status.models).flatMap(([model, { stages, info }]) => Object.entries(stages).map(([name, stage]) =>
    [model, name, stage.engine, place(stage), info.precision || "", fixed(stage.mean_ms, 2), stage.runs, stage.cache_hits]));
  put(el("stages"), table(["model", "stage", "engine", "place", "precision", "#mean ms", "#runs", "#cached"], stages, "No stage."));
  const triggers = Object.entries(status.triggers).map(([name, trigger]) =>
    [name, trigger.prompt, { text: trigger.active.length ? `on: ${trigger.active.join(", ")}` : "off", bad: trigger.active.length > 0 }]);
  put(el("triggers"), table(["trigger", "prompt", "state"], triggers, "None. The device file sets them."));
  const count = (value) => ({ text: value, bad: value > 0 });
  const sinks = Object.entries(status.sinks).map(([name, sink]) =>
    [name, sink.kind, sink.written, count(sink.dropped), count(sink.errors), sink.last_error || ""]);
  put(el("sinks"), table(["sink", "kind", "#written", "#dropped", "#errors", "last error"], sinks, "None. The device file sets them."));
}
