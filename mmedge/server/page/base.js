// Small tools. Text only ever becomes text: nothing from the device is parsed as HTML.

const COLORS = ["#ffb43c", "#2878c8", "#78d25a", "#c846b4", "#50dce6", "#e65a46", "#c8c8c8", "#3c823c"];

const el = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const fill = (node, ...children) => node.replaceChildren(...children.filter((child) => child !== null));

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function show(node, text) {
  say(node, text || "");
  node.hidden = !text;
}

const paint = (node, color) => { node.style.backgroundColor = color; return node; };

const fixed = (value, digits = 0) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

const now = () => performance.now() / 1000;

async function call(method, path, body) {
  const options = { method, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const json = (answer.headers.get("content-type") || "").includes("application/json");
  const value = json ? await answer.json() : null;
  if (!answer.ok) {
    const error = new Error((value && value.detail) || `${answer.status} ${answer.statusText}`);
    error.status = answer.status;
    throw error;
  }
  return value;
}

// The place of a prompt in its model's list: its colour everywhere on the page.
function colorOf(prompts, label) {
  const place = prompts.indexOf(label);
  return COLORS[(place < 0 ? 6 : place) % COLORS.length];
}
