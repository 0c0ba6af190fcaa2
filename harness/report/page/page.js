// The page: its filters, its theme, and drawing all of it again where one of them changes.

const FILTERS = ["model", "device", "precision", "engine", "batch", "measurement"];
const filters = {words: ""};

function passes(entry) {
  const parts = Object.values(entry.rows).map((row) => row.record);
  return (
    filters.words
      .toLowerCase()
      .split(/\s+/)
      .every((word) => entry.text.includes(word)) &&
    FILTERS.every((name) => !filters[name] || parts.some((record) => String(record[name]) === filters[name])) &&
    (!filters.file || fileOf(entry.first).path === filters.file)
  );
}

function passesPair(pair) {
  const told = `${pair.case} ${pair.measurement}`.toLowerCase();
  const entry = ENTRIES.find((one) => caseOf(one) === pair.case && one.first.file === pair.later);
  return (
    filters.words
      .toLowerCase()
      .split(/\s+/)
      .every((word) => told.includes(word)) &&
    (!entry || passes({...entry, text: told + entry.text}))
  );
}

function redraw() {
  const entries = ENTRIES.filter(passes);
  const groups = Map.groupBy(entries, (entry) => tableOf(entry.kind));
  const tables = Object.keys(TABLES)
    .filter((kind) => groups.has(kind))
    .map((kind) => section(kind, groups.get(kind), redraw));
  const [first, ...rest] = tables;
  const sections = [
    speedAgainstRight(entries, redraw),
    first,
    ...rest,
    servedLoads(entries),
    comparisons(passesPair),
    history(entries, redraw),
    machines(),
  ];
  document.getElementById("sections").replaceChildren(...sections.filter(Boolean));
  sweep();
  document.getElementById("shown").textContent = `${entries.length} of ${ENTRIES.length} rows`;
}

function makeFilters() {
  const form = document.getElementById("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  const box = element("input", {
    type: "search",
    name: "words",
    placeholder: "words in the case, such as bf16 openvino",
    "aria-label": "words that a row has to have",
  });
  box.addEventListener("input", () => {
    filters.words = box.value.trim();
    redraw();
  });
  form.append(box);
  const lists = [
    ...FILTERS.map((name) => [
      name,
      unique(
        PAGE.rows
          .map(({record}) => record[name])
          .filter((value) => value !== null && value !== undefined)
          .map(String),
      ).map((value) => [value, value]),
    ]),
    ["file", PAGE.files.map((file) => [file.path, file.name])],
  ];
  for (const [name, options] of lists.filter(([, found]) => found.length > 1)) {
    options.sort(([, one], [, other]) => one.localeCompare(other, "en", {numeric: true}));
    const list = element(
      "select",
      {name},
      element("option", {value: ""}, "all"),
      ...options.map(([value, text]) => element("option", {value}, text)),
    );
    list.addEventListener("change", () => {
      filters[name] = list.value;
      redraw();
    });
    form.append(element("label", {}, `${name} `, list));
  }
  form.append(element("span", {id: "shown", role: "status"}));
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/** Use the colours of a theme, in which all pictures are drawn anew. */
function useTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  const unfolded = ENTRIES.filter((entry) => entry.inside);
  for (const entry of unfolded)
    entry.inside.replaceWith((entry.inside = inside(entry, entry.inside.firstChild.colSpan)));
  redraw();
}

function start() {
  const machine = (file) =>
    [
      file.environment?.machine?.node ?? file.machine?.node,
      ...Object.values(file.environment?.devices ?? {}).map((device) => device.name),
    ]
      .filter(Boolean)
      .join(", ");
  const told = [
    `${PAGE.rows.length} measurements of ${PAGE.files.length === 1 ? PAGE.files[0].name : `${PAGE.files.length} files`}`,
    ...unique(PAGE.files.map(machine)),
    ...unique(PAGE.files.map((file) => file.datetime?.slice(0, 10)).filter(Boolean)),
  ];
  document.getElementById("summary").textContent = told.filter(Boolean).join(" · ");
  const theme = () => document.documentElement.dataset.theme;
  document.getElementById("theme").addEventListener("click", () => {
    useTheme(theme() === "dark" ? "light" : "dark");
  });
  prefersDark.addEventListener("change", () => {
    useTheme(prefersDark.matches ? "dark" : "light");
  });
  document.getElementById("print").addEventListener("click", () => {
    useTheme("light"); // paper is light
    setTimeout(() => window.print(), 500);
  });
  makeFilters();
  useTheme(prefersDark.matches ? "dark" : "light");
}

start();
