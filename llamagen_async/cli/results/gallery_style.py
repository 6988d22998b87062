"""How the gallery looks: one style sheet, for wide screens, phones and the dark. Text only."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #f6f3ee; --card: #ffffff; --ink: #23202b; --soft: #6b6577; --line: #e2dcd2;
  --sheet: #fbfaf8; --accent: #c2410c; --good: #13713d; --good-back: #dcf3e4;
  --bad: #a61b1b; --bad-back: #fde4e1; --wait: #85560a; --wait-back: #fcefcf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16141b; --card: #211e28; --ink: #efeaf4; --soft: #a79fb4; --line: #37323f;
    --sheet: #191720; --accent: #fb923c; --good: #86e0aa; --good-back: #173a27;
    --bad: #ffa8a0; --bad-back: #45191a; --wait: #f4cd7c; --wait-back: #3d2e10;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 74rem; padding: clamp(1rem, 3vw, 2.5rem);
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1 { margin: 0; font-size: clamp(1.6rem, 4vw, 2.4rem); line-height: 1.15; letter-spacing: -.02em; }
.lead { margin: .4rem 0 0; color: var(--soft); }
header dl { display: flex; flex-wrap: wrap; gap: .6rem 2.2rem; margin: 1.2rem 0 0; }
header dl div { display: flex; flex-direction: column; }
header dd {
  margin: 0; font-size: 1.35rem; font-weight: 650; font-variant-numeric: tabular-nums;
}
header dt { color: var(--soft); font-size: .85rem; }
time { display: block; font-size: .85rem; }
.show {
  display: none; flex-wrap: wrap; align-items: center; gap: .4rem; margin: 1.2rem 0 0; padding: 0;
  border: 0;
}
@supports selector(:has(*)) { .show { display: flex; } }
.show legend { float: left; margin-right: .3rem; padding: 0; color: var(--soft); }
.show label { cursor: pointer; }
.show input { position: absolute; opacity: 0; }
.show span {
  display: block; padding: .15rem .8rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--card); font-size: .9rem;
}
.show input:checked + span {
  background: var(--ink); border-color: var(--ink); color: var(--paper); font-weight: 600;
}
.show input:focus-visible + span { outline: 3px solid var(--accent); outline-offset: 2px; }
body:has(#show-succeeded:checked) article:not(.succeeded),
body:has(#show-failed:checked) article:not(.failed),
body:has(#show-uncertain:checked) article:not(.uncertain),
body:has(#show-running:checked) article:not(.running),
body:has(#show-sending:checked) article:not(.sending),
body:has(#show-queued:checked) article:not(.queued) { display: none; }
main {
  display: grid; grid-template-columns: minmax(0, 1fr); gap: clamp(.9rem, 2vw, 1.4rem);
  margin-top: 1.8rem;
}
article {
  display: grid; grid-template-columns: minmax(14rem, 19rem) minmax(0, 1fr);
  gap: clamp(1rem, 2.5vw, 2rem); align-items: start; padding: clamp(.9rem, 2vw, 1.5rem);
  background: var(--card); border: 1px solid var(--line); border-radius: .9rem;
  /* What is out of sight is laid out when it comes into sight: thousands open at once. */
  content-visibility: auto; contain-intrinsic-height: auto 32rem;
}
article.bare {
  grid-template-columns: minmax(0, 46rem); contain-intrinsic-height: auto 9rem;
}
article.failed, article.uncertain { border-inline-start: .3rem solid var(--bad); }
article:target { border-color: var(--accent); }
.about { position: sticky; top: 1rem; display: grid; gap: .6rem; min-width: 0; }
.number {
  margin: 0; color: var(--accent); font-size: .9rem; font-weight: 700;
  font-variant-numeric: tabular-nums;
}
h2 {
  margin: 0; font-size: 1.05rem; line-height: 1.5; font-weight: 500; overflow-wrap: anywhere;
  white-space: pre-line;
}
summary { color: var(--accent); font-size: .9rem; cursor: pointer; }
details p {
  max-height: 24rem; margin: .5rem 0 0; overflow: auto; overflow-wrap: anywhere;
  font-size: .95rem; white-space: pre-line;
}
.facts {
  display: flex; flex-wrap: wrap; gap: .3rem .9rem; margin: 0; padding: 0; list-style: none;
  color: var(--soft); font-size: .85rem;
}
.facts li { overflow-wrap: anywhere; }
.facts .state {
  padding: 0 .6em; border-radius: 1em; background: var(--wait-back); color: var(--wait);
  font-weight: 600;
}
.facts .succeeded { background: var(--good-back); color: var(--good); }
.facts .failed, .facts .uncertain { background: var(--bad-back); color: var(--bad); }
.facts .id { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .78rem; }
.trouble {
  margin: 0; padding: .6rem .8rem; border-radius: .5rem; overflow-wrap: anywhere;
  background: var(--wait-back); color: var(--wait); font-size: .92rem;
}
.failed .trouble, .uncertain .trouble { background: var(--bad-back); color: var(--bad); }
.pages { display: flex; flex-wrap: wrap; gap: .9rem; align-items: start; min-width: 0; }
figure {
  flex: 1 1 22rem; max-width: 32rem; min-width: min(100%, 15rem); margin: 0; padding: .6rem;
  background: var(--sheet); border: 1px solid var(--line); border-radius: .3rem;
  box-shadow: 0 .1rem .3rem rgb(0 0 0 / .08), 0 .5rem 1.2rem rgb(0 0 0 / .06);
}
figure.c2 { max-width: 38rem; }
figure.c2.tall { max-width: 30rem; }
figure.c3 { flex-basis: 44rem; max-width: none; }
figure > div { display: grid; gap: .6rem; }
figure.c2 > div { grid-template-columns: 1fr 1fr; }
figure.c2.r1 a:last-child { grid-column: 1 / -1; }
/* Three to a row; what is left over stands in rows of two. */
figure.c3 > div { grid-template-columns: repeat(6, 1fr); }
figure.c3 a { grid-column: span 2; }
figure.c3.r1 a:nth-last-child(-n+4), figure.c3.r2 a:nth-last-child(-n+2) { grid-column: span 3; }
figcaption { margin-top: .4rem; color: var(--soft); font-size: .8rem; text-align: center; }
figure a { display: block; border-radius: .2rem; overflow: hidden; }
figure a:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
img {
  display: block; width: 100%; height: auto; background: var(--line); color: var(--ink);
  font-size: .8rem; overflow-wrap: anywhere;
}
img:not([width]) { aspect-ratio: auto 1; }
figure.tall.c2.r1 a:last-child { width: calc(50% - .3rem); justify-self: center; }
footer { margin-top: 2rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 52rem) {
  article { grid-template-columns: minmax(0, 1fr); }
  .about { position: static; }
  figure, figure.c2, figure.c2.tall, figure.c3 { flex: 1 1 100%; max-width: 100%; }
}
@media (max-width: 34rem) {
  figure { padding: .35rem; }
  figure > div { gap: .35rem; }
  figure.wide > div { grid-template-columns: minmax(0, 1fr); }
  figure.c3 a:nth-child(n) { grid-column: span 3; }
  figure.c3 a:last-child:nth-child(odd) { grid-column: 1 / -1; }
  figure.tall.c3 a:last-child:nth-child(odd) {
    width: calc(50% - .3rem); justify-self: center;
  }
}
@media print {
  .show, footer { display: none; }
  article { break-inside: avoid; content-visibility: visible; }
}
"""
"""The content of the page's `style` element."""
