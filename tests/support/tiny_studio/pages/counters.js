// The tiny application's page: stored counters, and a button that adds to one.

export default {
  id: "counters",
  title: "Counters",
  order: 1,
  render(root, { dom, poll, get, act }) {
    const list = dom.el("ul", { class: "counters" });
    const button = dom.el("button", { type: "button" }, "Add 5 to jar");
    const said = dom.el("p", { class: "said" });
    button.addEventListener("click", async () => {
      const answer = await act("grant", { key: "jar", n: 5 });
      dom.setText(said, `${answer.granted_by.name} made it ${answer.total}`);
    });
    root.append(button, said, list);
    poll.every(200, async () => {
      const { rows } = await get("counters");
      dom.syncChildren(list, rows, (row) => row.key, (row) => dom.el("li"), (item, row) => dom.setText(item, `${row.key}: ${row.total}`));
    });
  },
};
