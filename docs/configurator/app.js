// The configurator. data.js, which `make docs` makes from the template, has TEMPLATE: the questions,
// and each file as a list of parts. A part is the number of a text, or the inputs on which it depends
// and the number of a text for each of their values.
"use strict";

(() => {
  const MARKS = /[\ue000-\ue003]/g;
  const root = document.getElementById("configurator");

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // What the template computes from the name.
  const packageOf = (name) => name.toLowerCase().replace(/[^a-z0-9]+/g, "_");
  const slugOf = (name) => name.toLowerCase().replace(/[^a-z0-9]+/g, "-");

  // The rules of copier.yml for a name; an empty text means that it is right.
  const problemOf = (name) => {
    if (!name) return "Enter a name, like Order Service.";
    if (name.length > 30) return "Use at most 30 characters.";
    if (!/^[A-Za-z]/.test(name)) return "Start with a letter from A to Z.";
    if (!/^[A-Za-z0-9 ._-]+$/.test(name)) return "Use A-Z, 0-9, space, dot, - or _.";
    if (!/[A-Za-z0-9]$/.test(name)) return "End with a letter or a digit.";
    if (TEMPLATE.reserved.includes(packageOf(name))) return "Reserved in Python. Add a word.";
    return "";
  };

  const quoted = (word) =>
    /^[A-Za-z0-9@%+=:,./_-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

  const look = (part, answers) => {
    if (!Array.isArray(part)) return part;
    const [inputs, values] = part;
    const key = inputs.map((number) => {
      const [question, value] = TEMPLATE.inputs[number];
      return value === null ? answers[question] : answers[question].includes(value) ? "1" : "0";
    });
    return values[key.join(" ")];
  };

  // All files of a service, as a list of [path, text].
  const filesOf = (answers) => {
    const marks = {
      "\ue000": answers.name,
      "\ue001": packageOf(answers.name),
      "\ue002": slugOf(answers.name),
      "\ue003": answers.address || "the address of the template",
    };
    const fill = (text) => text.replace(MARKS, (mark) => marks[mark]);
    return TEMPLATE.files
      .filter((file) => look(file.when, answers))
      .map((file) => [
        fill(file.path),
        fill(file.parts.map((part) => TEMPLATE.texts[look(part, answers)]).join("")),
      ]);
  };

  const commandOf = (answers) => {
    const list = (values) => `[${values.join(", ")}]`;
    const given = [
      `project_name=${answers.name}`,
      `backends=${list(answers.backends)}`,
      `features=${list(answers.features)}`,
      `ci=${answers.ci}`,
      `license=${answers.license}`,
    ];
    const place = answers.address ? quoted(answers.address) : '"$TEMPLATE"';
    return [
      `uvx copier copy${answers.ask ? "" : " --defaults"}`,
      ...given.map((each) => `  -d ${quoted(each)}`),
      `  ${place} ${slugOf(answers.name)}`,
    ].join(" \\\n");
  };

  const linesOf = (text) => text.split("\n").length - 1;
  const counted = (number, word) =>
    `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

  // --- The form

  const several = (name, title) =>
    element(
      "fieldset",
      {},
      element("legend", {}, title),
      ...TEMPLATE.questions[name].choices.map(([value, label]) => {
        const box = element("input", { type: "checkbox", name, value });
        box.checked = TEMPLATE.questions[name].default.includes(value);
        return element("label", {}, box, ` ${label}`);
      }),
    );

  const field = (title, input) =>
    element("label", {}, element("span", { class: "field" }, title), input);

  const one = (name, title) => {
    const select = element("select", { name });
    for (const [value, label] of TEMPLATE.questions[name].choices)
      select.append(element("option", { value }, label));
    select.value = TEMPLATE.questions[name].default;
    return field(title, select);
  };

  const text = (name, title, attributes) =>
    field(title, element("input", { name, type: "text", autocomplete: "off", ...attributes }));

  const refused = element("p", { class: "wrong", role: "alert" });
  const wrong = element("p", { class: "wrong", id: "configurator-wrong", role: "alert" });
  const form = element(
    "form",
    { "aria-label": "Answers" },
    element(
      "div",
      {},
      text("name", "Name of the service", {
        value: "Orders",
        maxlength: "40",
        "aria-describedby": "configurator-wrong",
      }),
      wrong,
      several("backends", "Backends"),
    ),
    element(
      "div",
      {},
      several("features", "Features"),
      refused,
      one("ci", "CI"),
      one("license", "Licence"),
      text("address", "Address of the template (optional)", { value: "" }),
    ),
    element(
      "label",
      {},
      element("input", { type: "checkbox", name: "ask" }),
      " Ask for the description and the author in the terminal",
    ),
  );

  // --- What it gives

  // The theme adds its own button to the code in a pre.
  const command = element("span");
  const copied = element("span", { role: "status" });
  const copy = element("button", { type: "button" }, "Copy the command");
  const size = element("p", { role: "status" });
  const tree = element("nav", { class: "tree", "aria-label": "Files" });
  const path = element("h2", { id: "configurator-path" });
  const content = element("span");
  const shown = element(
    "section",
    { class: "file", "aria-labelledby": "configurator-path" },
    path,
    element("pre", { tabindex: "0", "aria-labelledby": "configurator-path" }, content),
  );
  root.replaceChildren(
    form,
    element("h2", {}, "Command"),
    element("pre", { tabindex: "0", "aria-label": "Command" }, command),
    element("p", {}, copy, " ", copied),
    element("h2", {}, "Files"),
    size,
    element("div", { class: "result" }, tree, shown),
  );

  let files = [];
  let open = "README.md";

  const show = (name) => {
    open = name;
    path.textContent = name;
    content.textContent = files.find(([each]) => each === name)[1];
    for (const button of tree.querySelectorAll("button"))
      button.setAttribute("aria-current", String(button.value === name));
  };

  const branch = (folder) => {
    const list = element("ul");
    const inside = new Map();
    for (const [name, body] of files) {
      if (!name.startsWith(folder)) continue;
      const [first, ...rest] = name.slice(folder.length).split("/");
      if (rest.length) {
        inside.set(`${first}/`, null);
      } else {
        inside.set(first, [name, linesOf(body)]);
      }
    }
    const isFile = (name) => inside.get(name) !== null;
    const order = (one, other) => isFile(one) - isFile(other) || (one < other ? -1 : 1);
    for (const name of [...inside.keys()].sort(order)) {
      if (!isFile(name)) {
        const title = element("span", { class: "folder" }, name);
        list.append(element("li", {}, title, branch(folder + name)));
        continue;
      }
      const [value, lines] = inside.get(name);
      const button = element("button", { type: "button", value });
      button.append(element("span", {}, name), element("span", {}, counted(lines, "line")));
      button.addEventListener("click", () => {
        show(value);
        // On a phone, the file is below the tree.
        if (matchMedia("(max-width: 45rem)").matches) shown.scrollIntoView();
      });
      list.append(element("li", {}, button));
    }
    return list;
  };

  const update = () => {
    const given = new FormData(form);
    const answers = {
      name: given.get("name"),
      backends: given.getAll("backends"),
      features: given.getAll("features"),
      ci: given.get("ci"),
      license: given.get("license"),
      address: given.get("address").trim(),
      ask: given.has("ask"),
    };
    const problem = problemOf(answers.name);
    wrong.textContent = problem;
    form.elements.name.setAttribute("aria-invalid", String(Boolean(problem)));
    const refusal = TEMPLATE.texts[look(TEMPLATE.refusal, answers)];
    refused.textContent = refusal;
    copy.disabled = Boolean(problem || refusal);
    copied.textContent = "";
    if (copy.disabled) {
      command.textContent = "";
      return;
    }
    files = filesOf(answers);
    command.textContent = commandOf(answers);
    const lines = files.reduce((sum, [, body]) => sum + linesOf(body), 0);
    size.textContent = `${counted(files.length, "file")} and ${counted(lines, "line")}`;
    tree.replaceChildren(branch(""));
    show(files.some(([name]) => name === open) ? open : "README.md");
  };

  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      copied.textContent = "Copied.";
    } catch {
      // A page that was opened as a file may not write to the clipboard.
      getSelection().selectAllChildren(command);
      copied.textContent = "Selected. Press Ctrl-C.";
    }
  });
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
