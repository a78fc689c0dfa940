/** Writes docs/settings.md and man/pgsso.1 (`npm run docs`). */

import { writeFileSync } from 'node:fs';
import { formatManPage } from './man-page.ts';
import { formatManual } from './settings-manual.ts';

writeFileSync('docs/settings.md', formatManual());
writeFileSync('man/pgsso.1', await formatManPage());
