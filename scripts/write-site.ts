/** Writes the documentation as a site: `npm run docs:site`, into build/site. */
import { writeSite } from './site.ts';

const pages = writeSite('.', 'build/site');
process.stdout.write(`${pages.length} pages: open build/site/index.html\n`);
