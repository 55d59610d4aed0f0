// Hides the modules that lack one of the words typed above the table; for gr.Textbox.input(None, box, None, js=...).
(text) => {
  const words = (text || "").toLowerCase().split(/\s+/).filter(Boolean);
  for (const table of document.querySelectorAll(".architecture")) {
    const rows = [...table.querySelectorAll(".architecture-table tbody tr")];
    for (const row of rows) row.hidden = !words.every((word) => row.dataset.find.includes(word));
    table.querySelector(".architecture-found").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  }
  return [];
}
