"""The look of the page: light and dark, from a phone's width to a wide window."""

CSS = """
:root{color-scheme:light dark;--bg:#f6f7f9;--panel:#fff;--text:#17202c;--dim:#5b6878;--line:#dfe4ea;--soft:#eef1f5;
--done:#2f6fde;--cached:#9aa7b6;--error:#cf2f2f;--canceled:#c27c0e;--running:#12915f;--accent:#2f6fde;--code:#f3f5f8;--warn:#8a5a00}
@media(prefers-color-scheme:dark){:root{--bg:#10151c;--panel:#171e27;--text:#dde5ee;--dim:#93a1b2;--line:#2a3441;
--soft:#1f2833;--done:#5b94f2;--cached:#5d6b7b;--error:#f06a62;--canceled:#e0a33c;--running:#3fbf8c;--accent:#7fb0ff;--code:#121922;--warn:#e0a33c}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.55rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:34px 0 10px}
h2 small{font-weight:400;color:var(--dim);font-size:.85rem;margin-left:8px}
h3{font-size:.95rem;margin:16px 0 8px}
code,pre,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.86em}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
.top{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:center}
.badge{border-radius:99px;padding:2px 12px;font-size:.82rem;font-weight:600;color:#fff;background:var(--done)}
@media(prefers-color-scheme:dark){.badge{color:#0e131a}}
.badge.error{background:var(--error)}.badge.canceled{background:var(--canceled)}.badge.running{background:var(--running)}
.sub{color:var(--dim);margin:6px 0 0;overflow-wrap:anywhere}
.panel{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:10px;margin-top:18px}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.tile b{display:block;font-size:1.25rem;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:.82rem}
.bar{display:flex;height:14px;border-radius:7px;overflow:hidden;background:var(--soft);margin:8px 0}
.bar i{display:block;min-width:3px}.bar .img{background:var(--done)}.bar .stg{background:var(--cached)}
.key{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--dim);font-size:.86rem}
.failure{border-left:4px solid var(--error)}
.failure p{margin:0 0 8px;overflow-wrap:anywhere;font-weight:600}
pre{margin:0;overflow-x:auto;background:var(--code);border-radius:8px;padding:10px 12px;line-height:1.45;tab-size:8}
pre .hit{background:color-mix(in srgb,var(--error) 18%,transparent);display:inline-block;min-width:100%}
.tl{display:grid;gap:2px}
.row{display:grid;grid-template-columns:minmax(0,38%) minmax(0,1fr) 62px;gap:12px;align-items:center;color:inherit;border-radius:6px;padding:2px 6px;margin:0 -6px}
a.row:hover{background:var(--soft);text-decoration:none}
.row .nm{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.row .tm{text-align:right;color:var(--dim);font-variant-numeric:tabular-nums;font-size:.86rem}
.track{position:relative;height:16px;border-radius:4px;background:linear-gradient(90deg,var(--line) 1px,transparent 1px) 0 0/20% 100%,var(--soft)}
.track i{position:absolute;top:2px;bottom:2px;min-width:3px;border-radius:3px;background:var(--done)}
.cached i,.key.cached{background:var(--cached)}.error i,.key.error{background:var(--error)}
.canceled i,.key.canceled{background:var(--canceled)}.running i,.key.running{background:var(--running)}.key.done{background:var(--done)}
.scale{position:relative;display:flex;justify-content:space-between;color:var(--dim);font-size:.78rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
svg{display:block;max-width:none}
svg .edge{fill:none;stroke:var(--dim);stroke-opacity:.55;stroke-width:1.5}
svg rect{fill:var(--panel);stroke:var(--done);stroke-width:1.5}
svg .cached rect{stroke:var(--cached);stroke-dasharray:4 3}svg .error rect{stroke:var(--error);stroke-width:2.5}
svg .canceled rect{stroke:var(--canceled)}svg .running rect{stroke:var(--running)}
svg text{fill:var(--text);font:12px system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}svg text.d{fill:var(--dim);font-size:11px}
svg a:hover rect{fill:var(--soft)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--dim);font-weight:600;font-size:.8rem;border-bottom:1px solid var(--line);padding:4px 10px 6px 0}
td{border-bottom:1px solid var(--line);padding:5px 10px 5px 0;vertical-align:top;overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
td.wide{font-size:.9rem}td.n,th.n{text-align:right;white-space:nowrap;overflow-wrap:normal}
details{background:var(--panel);border:1px solid var(--line);border-radius:10px;margin:8px 0}
details>.in{padding:0 14px 14px}details .note:first-child{margin-top:0}
summary{cursor:pointer;padding:9px 14px;display:flex;gap:10px;align-items:baseline;list-style-position:inside}
summary::-webkit-details-marker{display:none}
summary::before{content:"";border:4px solid transparent;border-left-color:var(--dim);border-right-width:0;align-self:center;flex:none}
details[open]>summary::before{transform:rotate(90deg)}
summary .nm{flex:1;min-width:0;overflow-wrap:anywhere}
summary .tm{color:var(--dim);white-space:nowrap;font-size:.86rem;font-variant-numeric:tabular-nums}
details:target{outline:2px solid var(--accent)}
pre.log{max-height:34rem;overflow:auto;white-space:pre}
pre.log u{color:var(--dim);text-decoration:none;user-select:none;display:inline-block;min-width:5.5em;opacity:.8}
pre.log .e{color:var(--error)}
.note{color:var(--dim);font-size:.86rem;margin:8px 0;overflow-wrap:anywhere}.in .note{margin:4px 0}tr:target td{background:var(--soft)}
.layer{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:2px 14px;width:100%}
.layer .bar{grid-column:1/-1;height:6px;margin:4px 0 0}
.pairs{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:2px 16px;margin:0}
.pairs dt{color:var(--dim)}.pairs dd{margin:0;overflow-wrap:anywhere}
footer{color:var(--dim);font-size:.82rem;margin-top:40px}
@media(max-width:720px){main{padding:16px 12px 48px}h1{font-size:1.25rem}
.row{grid-template-columns:minmax(0,1fr) 58px;gap:0 10px}.row .nm{grid-column:1}.row .tm{grid-column:2;grid-row:1}.row .track{grid-column:1/-1;height:10px;margin-bottom:4px}
.scale{margin-left:0!important;margin-right:0!important}td.wide,th.wide{display:none}.pairs{grid-template-columns:minmax(0,1fr)}.pairs dd{margin-bottom:6px}
.panel{padding:12px}}
@media print{body{background:#fff}details{break-inside:avoid}pre.log{max-height:none}}
"""
