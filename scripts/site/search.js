// The search of the site: parts of pages that have all words, those in headings first.
const input = document.querySelector('#search');
const found = document.querySelector('#found');
const { up } = document.body.dataset;

function score({ page, heading, text }, words) {
  const title = `${page} ${heading}`.toLowerCase();
  const body = text.toLowerCase();
  let sum = 0;
  for (const word of words) {
    if (title.includes(word)) sum += 3;
    else if (body.includes(word)) sum += 1;
    else return 0;
  }
  return sum;
}

function show() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const best = PARTS.map((part) => ({ part, score: score(part, words) }))
    .filter(({ score }) => score > 0)
    .sort((left, right) => right.score - left.score)
    .slice(0, 12);
  found.replaceChildren(
    ...best.map(({ part }) => {
      const item = document.createElement('li');
      const link = document.createElement('a');
      link.href = up + part.url;
      link.textContent = part.page === part.heading ? part.page : `${part.page}: ${part.heading}`;
      item.append(link);
      return item;
    }),
  );
  found.hidden = best.length === 0;
}

input.addEventListener('input', show);
