"""The style sheet of the report: black on white, A4, no colour needed, nothing fetched."""

STYLE = """\
:root { --ink: #16191d; --soft: #565e68; --line: #c9ced5; --wash: #f4f5f7;
  --good: #1d6b45; --warn: #8a5a00; --bad: #a3161d; }
* { box-sizing: border-box; }
html { background: #e7e9ec; }
body { margin: 0 auto; max-width: 210mm; padding: 14mm 16mm; background: #fff; color: var(--ink);
  font: 10pt/1.45 "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 19pt; line-height: 1.2; font-weight: 600; overflow-wrap: anywhere; }
h2 { margin: 9mm 0 2.5mm; padding-bottom: 1mm; border-bottom: 0.4mm solid var(--ink); font-size: 12pt;
  font-weight: 600; break-after: avoid; }
h3 { margin: 4mm 0 1.5mm; font-size: 10pt; font-weight: 600; break-after: avoid; }
p { margin: 1.5mm 0; orphans: 3; widows: 3; }
.soft, caption, .kind { color: var(--soft); }
.kind { margin: 0 0 1mm; font-size: 8.5pt; letter-spacing: 0.06em; text-transform: uppercase; }
code, .mono { font-family: ui-monospace, "Cascadia Mono", Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.87em; overflow-wrap: anywhere; }
td, dd, code, bdi { unicode-bidi: isolate; }
header { display: flex; justify-content: space-between; gap: 8mm; align-items: flex-end; }
header .made { text-align: right; font-size: 8.5pt; color: var(--soft); white-space: nowrap; }

.banner { margin: 6mm 0 4mm; border: 0.5mm solid var(--tone); border-left-width: 3mm; padding: 4mm 5mm;
  display: grid; grid-template-columns: 14mm 1fr; gap: 0 5mm; align-items: start; break-inside: avoid; }
.banner svg { width: 14mm; height: 14mm; color: var(--tone); }
.banner .word { font-size: 17pt; line-height: 1.15; font-weight: 650; color: var(--tone); margin: 0; }
.banner .code { font-size: 9pt; color: var(--ink); font-weight: 400; margin-left: 2mm; }
.banner .next { margin-top: 2.5mm; padding-top: 2.5mm; border-top: 0.25mm solid var(--line); }
.whole { --tone: var(--good); } .incomplete, .unclean { --tone: var(--warn); }
.damaged, .tampered, .refused { --tone: var(--bad); }

.figures { display: flex; margin: 0 0 4mm; padding: 0; list-style: none; border: 0.25mm solid var(--line); }
.figures li { flex: 1; padding: 2mm 3mm; border-left: 0.25mm solid var(--line); font-size: 8.5pt;
  color: var(--soft); }
.figures li:first-child { border-left: 0; }
.figures b { display: block; font-size: 13pt; line-height: 1.25; color: var(--ink); font-weight: 600;
  white-space: nowrap; }
.figures .off b { color: var(--bad); }
.notes { margin: 0 0 3mm; padding-left: 5mm; }

dl { display: grid; grid-template-columns: 27mm 1fr 27mm 1fr; gap: 1mm 4mm; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
dt.wide { grid-column: 1; } dd.wide { grid-column: 2 / -1; }

table { width: 100%; border-collapse: collapse; font-size: 8.8pt; }
caption { text-align: left; padding-bottom: 1.5mm; font-size: 8.8pt; }
th { text-align: left; font-weight: 600; vertical-align: bottom; border-bottom: 0.3mm solid var(--ink); }
th, td { padding: 0.9mm 3mm 0.9mm 0; }
th:last-child, td:last-child { padding-right: 0; }
td { vertical-align: top; border-bottom: 0.2mm solid var(--line); overflow-wrap: anywhere; }
td.name { min-width: 36mm; } td.mark { font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.fixed, td.mark { white-space: nowrap; } td.words { overflow-wrap: break-word; }
thead { display: table-header-group; break-after: avoid; }
.short { break-inside: avoid; }
tr { break-inside: avoid; }
.state { font-weight: 600; white-space: nowrap; }
.state.good::before { content: "\\2713\\00a0"; } .state.bad::before { content: "\\2717\\00a0"; }
.state.step::before { content: "\\2026\\00a0"; } .state.step { font-weight: 400; white-space: normal; }
.state.good { color: var(--good); } .state.bad { color: var(--bad); }
.worst { margin: 1.5mm 0 0; padding: 0; list-style: none; }
details { margin-top: 2mm; } summary { cursor: pointer; color: var(--soft); }

.blob { break-inside: avoid; margin-bottom: 4mm; }
.cells { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: 1mm 6mm; list-style: none; margin: 0 0 2mm; padding: 0;
  font-size: 8.8pt; }
.legend svg { width: 3.2mm; height: 3.2mm; margin-right: 1.5mm; vertical-align: -0.3mm; }
.cell-whole, .cell-replaced { fill: #9fb0b8; } .cell-not-seen { fill: #6c747d; }
.cell-missing { fill: #a3161d; } .cell-damaged { fill: #a3161d; }

.sign { display: grid; grid-template-columns: 1fr 1fr; gap: 8mm; margin-top: 4mm;
  break-inside: avoid; break-before: avoid; }
.sign div { border-top: 0.25mm solid var(--ink); padding-top: 1mm; margin-top: 12mm; font-size: 8.5pt;
  color: var(--soft); }
.label { display: grid; grid-template-columns: 38mm 1fr; gap: 5mm; width: 130mm; min-height: 46mm;
  padding: 4mm; margin: 0 0 5mm; border: 0.3mm dashed #000; color: #000; break-inside: avoid;
  align-items: center; }
.label .qr { display: block; width: 38mm; height: 38mm; }
.label strong { font-size: 14pt; line-height: 1.2; } .label p { margin: 0 0 1mm; font-size: 8.5pt; }
.label .digest { font-size: 7.2pt; line-height: 1.35; display: block; white-space: nowrap; }
footer { margin-top: 9mm; padding-top: 2mm; border-top: 0.25mm solid var(--line); font-size: 8.5pt;
  break-inside: avoid; break-before: avoid;
  color: var(--soft); }

@media screen and (max-width: 640px) { body { padding: 5mm; } dl { grid-template-columns: 29mm 1fr; }
  dd.wide { grid-column: 2; } .figures { flex-wrap: wrap; } .figures li { flex: 1 1 30%; }
  header { display: block; } header .made { text-align: left; white-space: normal; }
  .banner { grid-template-columns: 9mm 1fr; gap: 0 3mm; padding: 3mm; }
  .banner svg { width: 9mm; height: 9mm; }
  .label { width: 100%; grid-template-columns: 1fr; } .label .digest { white-space: normal; }
  table, caption, tbody, tr, td { display: block; } thead { display: none; }
  tr { padding: 1.5mm 0; border-bottom: 0.2mm solid var(--line); }
  th, td, td.number, td.fixed, td.mark, td:last-child { position: relative; min-height: 1.5em; border: 0;
    padding: 0.4mm 0 0.4mm 33mm; text-align: left; white-space: normal; }
  td::before { content: attr(data-head); position: absolute; left: 0; width: 29mm; color: var(--soft);
    font-weight: 400; }
  .sign { grid-template-columns: 1fr; } }
@page { size: A4; margin: 15mm 15mm 16mm; @bottom-right { content: counter(page) " / " counter(pages);
  font: 8pt sans-serif; color: #565e68; } }
@media print { html { background: none; } body { max-width: none; padding: 0; font-size: 9.5pt;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; } .labels { break-before: page; }
  summary { list-style: none; } }
"""
