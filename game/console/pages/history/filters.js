// Filters of matches that are over, as the pages of matches and of players have them.

const FIELDS = {
  player: ["Player", 64],
  opponent: ["Opponent", 64],
  mode: ["Mode", 64],
  map_name: ["Map", 128],
  property: ["name=value", 200, "Property, name=value"],
  tag: ["Tag", 64],
};
const RESULTS = ["", "won", "lost", "tied"];

/** A bar of filters and pages. `changed()` is called when something else is asked for; `asked()` gives the query of
 * what is: null where no filter is set and this is the first page. `told(answer)` takes an answer, or the refusal of
 * one. */
export function matchFilters({ dom }, names, { result = false, changed }) {
  const { el, setText } = dom;
  const inputs = names.map((name) => {
    const [hint, maxlength, label] = FIELDS[name];
    return el("input", { type: "search", name, placeholder: hint, "aria-label": label ?? hint, maxlength });
  });
  if (result) {
    const options = RESULTS.map((value) => el("option", { value }, value || "any result"));
    inputs.push(el("select", { name: "result", "aria-label": "Result" }, options));
  }
  const first = el("button", { type: "button", disabled: true }, "First");
  const further = el("button", { type: "button", disabled: true }, "Further");
  const note = el("span", { class: "note", role: "status" });
  const element = el("div", { class: "bar filters" }, inputs, first, further, note);
  let cursor = "";
  let next = null;
  const turn = (to) => {
    cursor = to;
    next = null;
    first.disabled = cursor === "";
    further.disabled = true;
    changed();
  };
  for (const input of inputs) input.addEventListener("change", () => turn(""));
  first.addEventListener("click", () => turn(""));
  further.addEventListener("click", () => next !== null && turn(next));
  return {
    element,
    asked() {
      const set = inputs.map((input) => [input.name, input.value.trim()]).filter(([, value]) => value);
      if (cursor) set.push(["cursor", cursor]);
      return set.length ? Object.fromEntries(set) : null;
    },
    told(answer) {
      next = answer.next ?? null;
      further.disabled = next === null;
      setText(note, answer.refused ?? (answer.matches?.length === 0 ? "no such match" : ""));
    },
  };
}

/** The answer of `get(...)`, or its refusal of what was asked, as an answer without rows. */
export async function orRefusal(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error.status !== 400) throw error;
    return { matches: [], refused: error.message };
  }
}
