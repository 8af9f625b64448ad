// The pages work without this: it filters while one types, checks fields when they are left,
// counts edits, sends only those, and keeps the list of workers fresh.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);

  const localTimes = (root) => {
    for (const time of all("time[datetime]", root)) {
      const date = new Date(time.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      time.title = time.textContent;
      time.textContent = date.toLocaleString();
    }
  };

  const filter = () => {
    const form = one("[data-search]");
    if (!form) return;
    const input = one("input[type=search]", form);
    const settings = all("[data-setting]");
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const setting of settings) {
        // What is wrong must not be hidden.
        const wrong = setting.classList.contains("wa-is-wrong");
        const match = words.every((word) => setting.dataset.setting.includes(word));
        setting.hidden = !match && !wrong;
        found += setting.hidden ? 0 : 1;
      }
      for (const group of all(".wa-group")) group.hidden = !one("[data-setting]:not([hidden])", group);
      one("[data-none]").hidden = found > 0 || settings.length === 0;
      one("[data-count]").textContent = words.length ? `${found} of ${settings.length} settings` : "";
    };
    one("button", form).hidden = true;
    form.addEventListener("submit", (event) => event.preventDefault());
    input.addEventListener("input", apply);
    // A link to a group that is filtered out shows everything again.
    for (const link of all(".wa-jump a")) {
      link.addEventListener("click", () => { input.value = ""; apply(); });
    }
    if (input.value) apply();
  };

  const isEdited = (control) => {
    if (control.type === "hidden") return false;
    if (control.type === "checkbox") return control.checked !== control.defaultChecked;
    if (control.tagName === "SELECT") {
      return [...control.options].some((option) => option.selected !== option.defaultSelected);
    }
    if (control.tagName === "TEXTAREA") return control.value !== control.defaultValue;
    // Browsers write some values in their own way: seconds that are zero, for example.
    const untouched = control.cloneNode();
    untouched.value = control.defaultValue;
    return control.value !== untouched.value;
  };

  const jsonProblem = (text) => {
    try {
      JSON.parse(text);
      return "";
    } catch (error) {
      return `it is not JSON: ${error.message}`;
    }
  };

  const problemOf = (control) => {
    if ("json" in control.dataset) return jsonProblem(control.value);
    const length = [...control.value].length;
    if (length < Number(control.dataset.shortest || 0)) return `it has ${length} characters, too few`;
    if (length > Number(control.dataset.longest || Infinity)) return `it has ${length} characters, too many`;
    return control.validity.valid ? "" : control.validationMessage;
  };

  const check = (control, setting) => {
    const place = one("[data-error]", setting);
    const problem = isEdited(control) ? problemOf(control) : "";
    // What the server said stays until the text is another.
    if (!problem && !isEdited(control) && "typed" in setting.dataset) return;
    place.textContent = problem;
    place.hidden = !problem;
    setting.classList.toggle("wa-is-wrong", Boolean(problem));
    const ids = new Set((control.getAttribute("aria-describedby") || "").split(" ").filter(Boolean));
    ids[problem ? "add" : "delete"](place.id);
    control.setAttribute("aria-describedby", [...ids].join(" "));
    if (problem) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };

  const edits = () => {
    const form = one("[data-settings]");
    if (!form || !one("[data-dirty]")) return;
    const settings = all("[data-setting]", form);
    const told = one("[data-dirty]");
    const controls = (setting) => all("input, select, textarea", setting);
    const edited = (setting) => "typed" in setting.dataset || controls(setting).some(isEdited);
    const typed = one("[data-settings]").dataset;
    let count = 0;
    let leaving = false;
    const update = () => {
      const before = count;
      count = 0;
      for (const setting of settings) {
        const is = edited(setting);
        setting.classList.toggle("wa-is-edited", is);
        one("[data-edited]", setting).hidden = !is;
        count += is ? 1 : 0;
      }
      if (count !== before || !typed.counted) {
        typed.counted = "1";
        told.textContent = count ? `${count} edited, not saved yet.` : "Nothing edited.";
      }
    };
    for (const setting of settings) {
      setting.addEventListener("input", update);
      setting.addEventListener("change", (event) => {
        if (event.target.name && event.target.name.startsWith("v-")) check(event.target, setting);
        update();
      });
    }
    // After the browser put back what was typed before.
    window.addEventListener("pageshow", () => { leaving = false; update(); });
    form.addEventListener("submit", () => { leaving = true; });
    form.addEventListener("formdata", (event) => {
      for (const setting of settings) {
        if (edited(setting)) continue;
        for (const control of controls(setting)) event.formData.delete(control.name);
      }
    });
    window.addEventListener("beforeunload", (event) => {
      if (count && !leaving) event.preventDefault();
    });
    update();
  };

  const workers = () => {
    const box = one("[data-refresh]");
    if (!box) return;
    const tell = (text) => { const live = one("[data-live]", box); if (live) live.textContent = text; };
    const refresh = async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch(box.dataset.refresh, { cache: "no-store" });
        if (!answer.ok || answer.redirected) throw new Error(`status ${answer.status}`);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = one("[data-refresh]", page);
        if (!fresh) throw new Error("another page came");
        box.replaceChildren(...fresh.childNodes);
        tell(`Refreshed at ${new Date().toLocaleTimeString()}, every 5 seconds.`);
      } catch (error) {
        tell(`Not refreshed: ${error.message}.`);
      }
    };
    tell("Refreshed every 5 seconds.");
    setInterval(refresh, 5000);
    document.addEventListener("visibilitychange", refresh);
  };

  // Unlike the attribute, this also works when a page comes after another one's form.
  const news = one("[role=alert][tabindex]");
  if (news) news.focus();
  localTimes(document);
  filter();
  edits();
  workers();
})();
