// The pages work without this. It filters while one types, checks fields when they are left, counts
// edits, sets one switch in place, and learns of changes that others make. It never decides what is
// sent: the server compares everything with what it had shown.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const form = one("[data-settings]");
  const settings = form ? all("[data-setting]", form) : [];

  const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

  const ago = (date) => {
    const seconds = (date.getTime() - Date.now()) / 1000;
    const steps = [[60, 1, "second"], [3600, 60, "minute"], [86400, 3600, "hour"],
      [2592000, 86400, "day"], [31536000, 2592000, "month"], [Infinity, 31536000, "year"]];
    const [, length, unit] = steps.find(([limit]) => Math.abs(seconds) < limit);
    return new Intl.RelativeTimeFormat(undefined, { numeric: "auto" })
      .format(Math.round(seconds / length), unit);
  };

  const inShort = (date) => date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

  const localTimes = (root) => {
    for (const time of all("time[data-time]", root)) {
      const date = new Date(time.dateTime);
      if (Number.isNaN(date.getTime()) || "shown" in time.dataset) continue;
      time.dataset.shown = "";
      const utc = time.textContent;
      if (time.closest(".wa-more")) {
        time.title = `${inShort(date)} (${utc})`;
        time.textContent = ago(date);
      } else if (date.getTimezoneOffset() !== 0) {
        time.textContent = `${inShort(date)} (${utc})`;
      }
    }
    for (const control of all("input[type=datetime-local][data-utc]", root)) showLocal(control);
  };

  // A time with a zone is typed in UTC; what it is here stands beside it.
  const showLocal = (control) => {
    let place = control.nextElementSibling;
    if (!place || !place.matches("[data-local]")) {
      place = document.createElement("span");
      place.dataset.local = "";
      place.className = "wa-hint";
      control.after(place);
    }
    const date = new Date(`${control.value}Z`);
    const isHere = Number.isNaN(date.getTime()) || date.getTimezoneOffset() === 0;
    place.textContent = isHere ? "" : `${inShort(date)} in your time zone`;
  };

  const toast = (text, link) => {
    const box = one("[data-toasts]");
    if (!box) return;
    const item = document.createElement("p");
    item.className = "wa-toast";
    item.append(text);
    if (link) {
      const a = document.createElement("a");
      a.href = link[0];
      a.textContent = link[1];
      item.append(" ", a);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.className = "wa-small";
    close.textContent = "Dismiss";
    close.addEventListener("click", () => item.remove());
    item.append(" ", close);
    box.append(item);
  };

  // --- what was edited ---------------------------------------------------------------------------

  const isEdited = (control) => {
    if (control.type === "hidden" || control.type === "submit") return false;
    if (control.type === "checkbox") return control.checked !== control.defaultChecked;
    if (control.tagName === "SELECT") {
      const chosen = [...control.options].find((option) => option.defaultSelected);
      return control.value !== (chosen || control.options[0] || { value: "" }).value;
    }
    if (control.tagName === "TEXTAREA") return control.value !== control.defaultValue;
    // Browsers write some values in their own way: seconds that are zero, for example.
    const untouched = control.cloneNode();
    untouched.value = control.defaultValue;
    return control.value !== untouched.value || control.validity.badInput;
  };
  const controls = (setting) => all("input, select, textarea", setting);
  const isSettingEdited = (setting) =>
    "typed" in setting.dataset || controls(setting).some(isEdited);

  // --- the search and the filters ----------------------------------------------------------------

  let refilter = () => {};
  const filter = () => {
    const box = one("[data-search]");
    if (!box || !form) return;
    const input = one("input[type=search]", box);
    const only = one("select", box);
    const groups = all(".wa-group").map((group) => [group, all("[data-setting]", group)]);
    const kinds = {
      changed: (setting) => "changed" in setting.dataset,
      edited: isSettingEdited,
      faults: (setting) => "fault" in setting.dataset || setting.classList.contains("wa-is-wrong"),
    };
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const fits = kinds[only.value] || (() => true);
      let found = 0;
      for (const [group, members] of groups) {
        let here = 0;
        for (const setting of members) {
          // What is wrong must not be hidden.
          const match = words.every((word) => setting.dataset.setting.includes(word)) && fits(setting);
          const hide = !match && !setting.classList.contains("wa-is-wrong");
          if (setting.hidden !== hide) setting.hidden = hide;
          here += hide ? 0 : 1;
        }
        if (group.hidden !== !here) group.hidden = !here;
        if (here && words.length) group.open = true;
        found += here;
      }
      const asked = words.length > 0 || only.value !== "";
      one("[data-none]").hidden = found > 0 || settings.length === 0;
      one("[data-count]").textContent = asked ? `${found} of ${counted(settings.length, "setting")}` : "";
      const url = new URL(location.href);
      for (const [key, text] of [["q", input.value.trim()], ["only", only.value]]) {
        if (text) url.searchParams.set(key, text); else url.searchParams.delete(key);
      }
      if (url.href !== location.href && form.dataset.own) history.replaceState(history.state, "", url);
    };
    // The address of an answer to a POST can't be opened again.
    if (location.pathname === new URL(box.action).pathname) form.dataset.own = "1";
    one("button", box).hidden = true;
    box.addEventListener("submit", (event) => event.preventDefault());
    input.addEventListener("input", apply);
    only.addEventListener("change", apply);
    // A link to a group that is filtered out shows everything again.
    for (const link of all(".wa-jump a")) {
      link.addEventListener("click", () => {
        if (input.value || only.value) { input.value = ""; only.value = ""; apply(); }
        const group = document.getElementById(link.hash.slice(1));
        if (group) group.open = true;
      });
    }
    refilter = apply;
    if (input.value || only.value) apply();
  };

  // --- errors, in the words of the server ----------------------------------------------------------

  const jsonProblem = (text) => {
    try {
      JSON.parse(text);
      return "";
    } catch (error) {
      const at = /position (\d+)/.exec(error.message);
      if (!at) return "it is not JSON";
      const before = text.slice(0, Number(at[1])).split("\n");
      return `it is not JSON, in line ${before.length}, column ${before.at(-1).length + 1}`;
    }
  };
  const numberProblem = (control) => {
    const text = control.value.trim();
    const number = Number(text);
    if (!text) return "";
    const isWhole = control.getAttribute("step") === "1";
    const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
    if (!isNumber || (isWhole && !Number.isInteger(number))) {
      const got = text.length <= 80 ? `, got ${text}` : "";
      return `it must be ${isWhole ? "a whole number" : "a number"}${got}`;
    }
    const { min, max } = control.dataset;
    if (min !== undefined && number < Number(min)) return `it must be at least ${min}, got ${text}`;
    if (max !== undefined && number > Number(max)) return `it must be at most ${max}, got ${text}`;
    return "";
  };
  const problemOf = (control) => {
    if (control.validity.badInput) return "it is not complete";
    if ("json" in control.dataset) return jsonProblem(control.value);
    if ("number" in control.dataset) return numberProblem(control);
    const length = [...control.value].length;
    const { shortest, longest } = control.dataset;
    if (length < Number(shortest || 0)) return `it must have at least ${counted(shortest, "character")}, got ${length}`;
    if (longest && length > Number(longest)) return `it must have at most ${counted(longest, "character")}, got ${length}`;
    return "";
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

  // --- the form ------------------------------------------------------------------------------------

  // Rows are added in place. The browser's back button brings no added row back, nor what was typed
  // into it: so they are kept with this very entry of its history, as it keeps other fields.
  const growing = (rows) => {
    const add = one("[data-add-row]", rows);
    const made = all("[data-row]", rows).length;
    const grow = () => {
      const row = all("[data-row]", rows).at(-1).cloneNode(true);
      const number = all("[data-row]", rows).length + 1;
      for (const input of all("input", row)) {
        input.value = "";
        input.defaultValue = "";
        input.setAttribute("aria-label", input.getAttribute("aria-label").replace(/\d+$/, number));
      }
      add.before(row);
      return row;
    };
    const keep = () => {
      const added = all("[data-row]", rows).slice(made)
        .map((row) => all("input", row).map((input) => input.value));
      const state = history.state || {};
      const kept = { ...state.rows, [rows.id]: added };
      history.replaceState({ ...state, rows: kept }, "");
    };
    const kept = ((history.state || {}).rows || {})[rows.id] || [];
    for (const texts of kept) {
      all("input", grow()).forEach((input, number) => { input.value = texts[number]; });
    }
    rows.addEventListener("input", (event) => {
      const row = event.target.closest("[data-row]");
      if (all("[data-row]", rows).indexOf(row) >= made) keep();
    });
    add.addEventListener("click", (event) => {
      event.preventDefault();
      const row = grow();
      keep();
      one("input", row).focus();
    });
  };

  let count = 0;
  const edits = () => {
    const told = one("[data-dirty]");
    if (!form || !told) return;
    const button = one(".wa-bar button");
    let leaving = false;
    const marked = new Map(settings.map((setting) => [setting, null]));
    const say = () => {
      told.textContent = count ? `${count} edited, not saved yet.` : "Nothing edited.";
      button.disabled = count === 0;
    };
    const mark = (setting) => {
      const is = isSettingEdited(setting);
      if (marked.get(setting) === is) return;
      count += (is ? 1 : 0) - (marked.get(setting) ? 1 : 0);
      marked.set(setting, is);
      setting.classList.toggle("wa-is-edited", is);
      one("[data-edited]", setting).hidden = !is;
    };
    const update = () => { settings.forEach(mark); say(); };
    for (const setting of settings) {
      setting.addEventListener("input", (event) => {
        // Who types a value does not want the default, or none.
        if (!event.target.matches("[data-instead], [name^='x-']")) {
          for (const box of all("[data-instead]", setting)) box.checked = false;
        }
        if (event.target.matches("[data-utc]")) showLocal(event.target);
        mark(setting);
        say();
      });
      setting.addEventListener("change", (event) => {
        if (event.target.name && /^v\d*-/.test(event.target.name)) check(event.target, setting);
        mark(setting);
        say();
      });
    }
    form.noValidate = true;
    form.addEventListener("focusin", (event) => {
      // The browser shows the caret of a long text, whose end may lie under the bar.
      if (event.target.tagName === "TEXTAREA") event.target.scrollIntoView({ block: "nearest" });
    });
    form.addEventListener("submit", (event) => {
      // The browser would send nothing of a date that is not complete.
      const bad = all("input", form).find((control) => control.validity.badInput);
      if (bad && !(event.submitter && event.submitter.matches("[data-add-row]"))) {
        event.preventDefault();
        check(bad, bad.closest("[data-setting]"));
        // It may be filtered out, or in a group that is closed.
        refilter();
        bad.closest("details").open = true;
        bad.focus();
        return;
      }
      if (count === 0 && !(event.submitter && event.submitter.hasAttribute("formaction"))) {
        event.preventDefault();
        return;
      }
      leaving = true;
    });
    all("[data-rows]", form).forEach(growing);
    // After the browser put back what was typed before.
    window.addEventListener("pageshow", () => { leaving = false; update(); refilter(); });
    window.addEventListener("beforeunload", (event) => {
      if (count && !leaving) event.preventDefault();
    });
    update();
    setTimeout(update);
    return update;
  };

  const post = async (url, fields) => {
    const body = new URLSearchParams(fields);
    const answer = await fetch(url, { method: "POST", body, cache: "no-store" });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.problem || `status ${answer.status}`);
    return content;
  };

  // One switch alone, asked about and set in place; with other edits it waits for the review.
  const switches = (update) => {
    const dialog = one("[data-dialog]");
    if (!form || !dialog || !dialog.showModal) return;
    const why = one("#wa-why", dialog);
    const refusal = one("[data-refusal]", dialog);
    let control = null;
    for (const input of all("input[role=switch]", form)) {
      input.addEventListener("change", () => {
        const setting = input.closest("[data-setting]");
        const old = one("[data-now]", setting);
        if (old) old.remove();
        if (!isEdited(input) || count !== 1 || "typed" in setting.dataset) return;
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.now = "";
        button.className = "wa-small";
        button.textContent = input.checked ? "Turn on now" : "Turn off now";
        button.addEventListener("click", () => {
          control = input;
          refusal.hidden = true;
          why.value = "";
          const title = one(".wa-name label", setting).textContent;
          one("[data-ask]", dialog).textContent = `Turn ${title} ${input.checked ? "on" : "off"} for everyone?`;
          one("[data-yes]", dialog).textContent = input.checked ? "Turn on" : "Turn off";
          dialog.showModal();
          why.focus();
        });
        input.closest(".wa-switch").append(button);
      });
    }
    one("[data-no]", dialog).addEventListener("click", () => dialog.close());
    one("[data-yes]", dialog).addEventListener("click", async () => {
      const setting = control.closest("[data-setting]");
      const hidden = form.elements;
      const token = form.querySelector("input[type=hidden]");
      try {
        const made = await post(form.dataset.switch, [
          [token.name, token.value], ["name", setting.dataset.name],
          ["value", control.checked ? "true" : "false"], ["reason", why.value],
          ["revision", hidden.namedItem("revision").value],
        ]);
        hidden.namedItem("revision").value = made.revision;
        hidden.namedItem(`b-${made.key}`).value = made.base;
        control.defaultChecked = control.checked;
        const news = one("[data-news]");
        if (news) news.dataset.revision = made.revision;
        const button = one("[data-now]", setting);
        if (button) button.remove();
        dialog.close();
        update();
        for (const pill of all(".wa-pill")) pill.textContent = `Revision ${made.revision}`;
        toast(`Saved as revision ${made.revision}.`);
        control.focus();
      } catch (error) {
        refusal.textContent = error.message;
        refusal.hidden = false;
      }
    });
  };

  // Without this, the answer to the second click of a double click would be shown: that nothing was
  // changed, or that someone else was faster. After a while a form may be sent again: the answer to
  // the first may have been stopped.
  const sendOnce = () => {
    for (const sent of all("form[method=post]")) {
      let last = -Infinity;
      sent.addEventListener("submit", (event) => {
        if (event.defaultPrevented) return;
        if (event.timeStamp - last < 1000) event.preventDefault();
        else last = event.timeStamp;
      });
      // The back button may bring this very page again.
      window.addEventListener("pageshow", () => { last = -Infinity; });
    }
  };

  // --- what others do --------------------------------------------------------------------------------

  const news = () => {
    const box = one("[data-news]");
    if (!box) return;
    let etag = "";
    let said = Number(box.dataset.revision);
    const ask = async () => {
      if (document.hidden) return;
      try {
        const known = Number(box.dataset.revision);
        const headers = etag ? { "If-None-Match": etag } : {};
        const answer = await fetch(`${box.dataset.news}?seen=${known}`, { headers, cache: "no-store" });
        if (answer.status !== 200 || answer.redirected) return;
        etag = answer.headers.get("ETag") || "";
        const told = await answer.json();
        if (told.revision <= Math.max(said, known)) return;
        said = told.revision;
        const names = (told.names || []).slice(0, 3).join(", ");
        const who = (told.authors || []).join(", ") || "Someone";
        toast(`${who} changed ${names || "settings"} (revision ${told.revision}).`,
          [one(".wa-nav a[href*=history]").href, "See what changed"]);
      } catch (error) {
        // The next one may get through.
      }
    };
    setInterval(ask, 5000);
    document.addEventListener("visibilitychange", ask);
  };

  const reach = () => {
    const place = one("[data-reach]");
    if (!place) return;
    const soon = Date.now() + 60_000;
    const look = async () => {
      const answer = await fetch(place.dataset.reach, { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const { have, of, late } = await answer.json();
      const why = late.length ? ` Not yet: ${late.join("; ")}.` : "";
      // The reasons count seconds: a screen reader says the first of them, and the end.
      const all = of !== null && have >= of;
      place.ariaLive = place.textContent && !all ? "off" : "polite";
      place.textContent = `Served by ${have} of ${of ?? "an unknown number"}.${why}`;
      return all;
    };
    const ask = async () => {
      try {
        if (!document.hidden && await look()) return;
      } catch (error) {
        place.textContent = "";
      }
      setTimeout(ask, Date.now() < soon ? 1000 : 10_000);
    };
    ask();
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

  const keys = () => {
    document.addEventListener("keydown", (event) => {
      const writing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
      const search = one("#wa-q");
      if (event.key === "/" && !writing && search) {
        event.preventDefault();
        search.focus();
      }
      if (event.key === "s" && (event.ctrlKey || event.metaKey) && form) {
        event.preventDefault();
        if (event.target.blur) event.target.blur();
        form.requestSubmit(one(".wa-bar button"));
      }
    });
  };

  // A link to a setting opens its group.
  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const group = target && target.closest("details");
    if (group) { group.open = true; target.scrollIntoView(); }
  };

  // Unlike the attribute, this also works when a page comes after another one's form.
  const alert = one("[role=alert][tabindex]");
  if (alert) alert.focus();
  localTimes(document);
  filter();
  switches(edits());
  sendOnce();
  news();
  reach();
  workers();
  keys();
  openTarget();
})();
