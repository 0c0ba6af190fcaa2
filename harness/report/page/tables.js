// The tables: how they are made, sorted and unfolded.

/** Sorting: {column, isDown} by kind of table; without one, the order of the files. */
const sorting = {};

function compareKeys(one, other) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  if (isNumber(one) && isNumber(other)) return one - other;
  return String(one).localeCompare(String(other), "en", {numeric: true});
}

function sorted(kind, columns, entries) {
  const by = sorting[kind];
  const column = columns.find((one) => one.heading === by?.column);
  if (!column) return entries;
  const keyed = entries.map((entry) => [column.key(entry) ?? undefined, entry]);
  // what has no value stays last, whichever way the others go
  keyed.sort(
    ([one], [other]) => (one === undefined || other === undefined || !by.isDown ? 1 : -1) * compareKeys(one, other),
  );
  return keyed.map(([, entry]) => entry);
}

/** The section of one kind of entries: its heading and its table. `redraw` is called after a click on a heading. */
function section(kind, entries, redraw) {
  const [heading, own] = TABLES[kind];
  const first = [
    {...prose("case", caseOf), cell: (entry) => [unfoldButton(entry)]},
    ...(PAGE.files.length > 1 ? [prose("file", (entry) => fileOf(entry.first).name)] : []),
  ];
  const ofTable = ENTRIES.filter((entry) => tableOf(entry.kind) === kind);
  const columns = [...first, ...own].filter((column) => ofTable.some((entry) => column.cell(entry).length));
  const table = element(
    "table",
    {"data-table": kind},
    element("thead", {}, element("tr", {}, ...columns.map((column) => headingCell(kind, column, redraw)))),
  );
  const body = element("tbody");
  const best = bestOf(columns, entries);
  for (const entry of sorted(kind, columns, entries)) {
    const cells = columns.map((column) => {
      const classes = [column.kind ?? "", best.get(column)?.has(entry) ? "best" : ""].join(" ").trim();
      return element("td", {class: classes || null, "data-column": column.heading}, ...column.cell(entry));
    });
    const line = element("tr", {class: "row", "data-case": caseOf(entry)}, ...cells);
    body.append(line);
    if (entry.inside) line.after(entry.inside);
  }
  table.append(body);
  return element(
    "section",
    {id: `table-${kind}`},
    element("h2", {}, heading),
    element("div", {class: "scroll"}, table),
  );
}

function headingCell(kind, column, redraw) {
  const by = sorting[kind]?.column === column.heading ? sorting[kind] : null;
  const button = element("button", {type: "button", title: column.title ?? null}, column.heading);
  button.addEventListener("click", () => {
    // the first click on a number shows the best first, where it is known which that is, else the greatest
    const isDownFirst = !column.kind && column.best !== "least";
    sorting[kind] = {column: column.heading, isDown: by ? !by.isDown : isDownFirst};
    redraw();
    document.querySelector(`[data-table="${kind}"] th[aria-sort] button`).focus();
  });
  const order = by ? (by.isDown ? "descending" : "ascending") : null;
  return element("th", {scope: "col", class: column.kind ? "word" : null, "aria-sort": order}, button);
}

/** The entries with the best number of each model, device and batch, where there are several and the answers hold. */
function bestOf(columns, entries) {
  const found = new Map();
  for (const column of columns.filter((one) => one.best)) {
    const winners = new Map();
    const counts = new Map();
    for (const entry of entries.filter((one) => isNumber(column.key(one)) && !isWrong(one))) {
      const group = groupOf(entry);
      const held = winners.get(group);
      counts.set(group, (counts.get(group) ?? 0) + 1);
      const isBetter =
        !held ||
        (column.best === "least" ? column.key(entry) < column.key(held) : column.key(entry) > column.key(held));
      if (isBetter) winners.set(group, entry);
    }
    found.set(column, new Set([...winners].filter(([group]) => counts.get(group) > 1).map(([, entry]) => entry)));
  }
  return found;
}

const groupOf = ({first: {record}}) => `${record.model}, ${record.device}, batch ${record.batch}`;

function unfoldButton(entry) {
  const button = element(
    "button",
    {type: "button", class: "unfold", "aria-expanded": String(Boolean(entry.inside))},
    caseOf(entry),
  );
  button.addEventListener("click", () => {
    const line = button.closest("tr");
    if (entry.inside) entry.inside.remove();
    else line.after((entry.inside = inside(entry, line.children.length)));
    sweep();
    button.setAttribute("aria-expanded", String(Boolean(entry.inside)));
  });
  return button;
}

/** What unfolds under a row: the pictures of its measurements, then each record with its evidence. */
function inside(entry, width) {
  const rows = Object.values(entry.rows);
  const told = rows.flatMap((row) =>
    Object.values(row.remarks).map((sentence) => element("p", {class: "note bad"}, sentence)),
  );
  // the measurements of one case mostly have one proof
  const proofs = Map.groupBy(rows, (row) => JSON.stringify(row.record.evidence));
  const evidence = [...proofs.values()].map((of) =>
    element(
      "details",
      {open: ""},
      element("summary", {}, `Evidence of ${of.map((row) => words(kindOf(row))).join(", ")}`),
      of[0].record.evidence ? fieldsOf(of[0], of[0].record.evidence, ["evidence"]) : "There is none in this file.",
    ),
  );
  const others = rows.map((row) => {
    const {evidence: _, ...rest} = row.record;
    return element(
      "details",
      {},
      element("summary", {}, `All else that was recorded of ${words(kindOf(row))}`),
      fieldsOf(row, rest, []),
    );
  });
  const pictures = element("div", {class: "pictures"});
  const line = element(
    "tr",
    {class: "unfolded"},
    element(
      "td",
      {class: "inside", colspan: width},
      element("div", {class: "within"}, pictures, ...told, ...evidence, ...others),
    ),
  );
  drawLater(pictures, () => {
    rows.forEach((row) => drawPictures(row, pictures));
    const profiled = rows.find((row) => row.record.layers?.length);
    if (profiled) drawLayers(profiled, pictures);
  });
  return line;
}
