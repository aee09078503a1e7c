// Prompts, edited in place. What is being typed is never overwritten by what comes from elsewhere.

const editors = new Map();

class PromptEditor {
  constructor(model) {
    this.model = model;
    this.prompts = [];
    this.version = 0;
    this.based = 0;
    this.changed = false;
    this.busy = false;
    this.words = make("span", { class: "quiet" });
    this.list = make("ul");
    this.error = make("p", { class: "error note", role: "alert", hidden: true });
    this.note = make("p", { class: "quiet note", role: "status", hidden: true });
    this.add = make("button", { type: "button", class: "plain", onclick: () => this.insert("", true) }, "Add prompt");
    this.revert = make("button", { type: "button", class: "plain", onclick: () => this.reset() }, "Revert");
    this.apply = make("button", { type: "submit" }, "Apply");
    this.form = make("form", { class: "model", "aria-label": `Prompts of ${model}`, onsubmit: (event) => this.put(event) },
      make("div", { class: "head" }, make("h3", {}, model), this.words), this.list, this.error, this.note,
      make("div", { class: "row" }, this.add, this.revert, this.apply));
    this.refresh();
  }

  status(status) {
    const text = Object.values(status.info.inputs || {}).includes("text");
    const { prompts = [], prompt_version: version = 0 } = status.info;
    for (const node of [this.add, this.revert, this.apply]) node.hidden = !text;
    say(this.words, text ? `version ${version}` : "takes no text");
    this.changedTo(prompts, version);
    if (!this.busy && !this.changed) show(this.error, status.error || "");
  }

  changedTo(prompts, version) {
    const other = version !== this.version;
    this.prompts = prompts;
    this.version = version;
    if (other && !this.changed) this.reset();
    if (this.changed) show(this.note, version !== this.based ? `Changed elsewhere meanwhile, to version ${version}.` : "");
  }

  values() {
    return [...this.list.querySelectorAll("input")].map((input) => input.value.trim()).filter((text) => text);
  }

  insert(text, focus = false) {
    const input = make("input", { value: text, maxlength: 1000, "aria-label": "Prompt", spellcheck: "false", oninput: () => this.edited() });
    const remove = make("button", { type: "button", class: "remove", "aria-label": "Remove prompt", onclick: () => {
      const next = row.nextElementSibling || row.previousElementSibling;
      row.remove();
      this.edited();
      (next ? next.querySelector("input") : this.add).focus();
    } }, "×");
    const row = make("li", {}, make("span", { class: "swatch", "aria-hidden": "true" }), input, remove);
    this.list.append(row);
    this.number();
    if (focus) { input.focus(); this.edited(); }
  }

  number() {
    [...this.list.children].forEach((row, k) => paint(row.firstChild, COLORS[k % COLORS.length]));
  }

  edited() {
    this.changed = JSON.stringify(this.values()) !== JSON.stringify(this.prompts) || this.list.children.length !== this.prompts.length;
    this.number();
    this.refresh();
  }

  reset() {
    this.list.replaceChildren();
    for (const text of this.prompts) this.insert(text);
    this.changed = false;
    this.based = this.version;
    show(this.error, "");
    show(this.note, "");
    this.refresh();
  }

  refresh() {
    this.apply.disabled = this.busy || !this.changed || !this.values().length;
    this.revert.disabled = this.busy || !this.changed;
    say(this.apply, this.busy ? "Applying…" : "Apply");
  }

  async put(event) {
    event.preventDefault();
    if (this.apply.disabled) return;
    this.busy = true;
    show(this.error, "");
    this.refresh();
    try {
      const answer = await call("PUT", `/api/v1/models/${encodeURIComponent(this.model)}/prompts`, { prompts: this.values() });
      this.prompts = answer.prompts;
      this.version = answer.version;
      this.busy = false;
      this.reset();
      show(this.note, `In force as version ${answer.version}.`);
    } catch (error) {
      this.busy = false;
      show(this.error, `Not applied: ${error.message}`);
      this.refresh();
      if (error.status === 401) link.handlers.check();
    }
  }
}

function showPrompts(status) {
  for (const name of editors.keys()) {
    if (!(name in status.models)) { editors.get(name).form.remove(); editors.delete(name); }
  }
  for (const [name, model] of Object.entries(status.models)) {
    if (!editors.has(name)) {
      editors.set(name, new PromptEditor(name));
      el("prompts").append(editors.get(name).form);
    }
    editors.get(name).status(model);
  }
}
