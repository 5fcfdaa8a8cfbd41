// Questions to the person: forms in a dialog, which give what was filled in, or nothing.

import { el } from "./dom.js";

let last = 0;

/** A labelled field. `node` is an input, a select or a textarea. */
export function field(label, node, hint = "") {
  node.id ||= `field-${++last}`;
  const below = hint ? el("small", { id: `${node.id}-hint` }, hint) : null;
  if (below) node.setAttribute("aria-describedby", below.id);
  return el("p", { class: "field" }, el("label", { for: node.id }, label), node, below);
}

export function choice(options, chosen) {
  return el("select", {}, options.map((each) => el("option", { value: each, selected: each === chosen }, each)));
}

/** A text with suggestions. */
export function suggested(value, suggestions) {
  const list = el("datalist", { id: `list-${++last}` }, suggestions.map((each) => el("option", { value: each })));
  const input = el("input", { value, list: list.id, required: true, autocomplete: "off", spellcheck: "false" });
  return { input, list };
}

/**
 * Ask in a dialog. `send` is called with nothing when the person agrees; while it fails, the dialog stays and says why.
 * Resolves with what `send` gave, or undefined.
 */
export function ask({ title, fields, agree, tone = "main", send }) {
  return new Promise((resolve) => {
    const fault = el("p", { class: "fault", role: "alert", hidden: true });
    const yes = el("button", { class: `button ${tone}`, type: "submit" }, agree);
    const no = el("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Cancel");
    const heading = el("h2", { id: `dialog-${++last}` }, title);
    const form = el("form", { method: "dialog", onsubmit: submit }, heading, fields, fault, el("p", { class: "ends" }, no, yes));
    const dialog = el("dialog", { class: "dialog", "aria-labelledby": heading.id, onkeydown: quick, onclose: () => (dialog.remove(), resolve(dialog.given)) }, form);

    async function submit(event) {
      event.preventDefault();
      yes.disabled = true;
      try {
        dialog.given = await send();
        dialog.close();
      } catch (refusal) {
        fault.textContent = refusal.message;
        fault.hidden = false;
      } finally {
        yes.disabled = false;
      }
    }

    function quick(event) {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      event.stopPropagation();
    }

    document.body.append(dialog);
    dialog.showModal();
    (form.querySelector("[autofocus]") ?? form.querySelector("input, textarea, select") ?? yes).focus();
  });
}
