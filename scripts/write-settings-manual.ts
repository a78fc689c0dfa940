/** Writes docs/settings.md (`npm run docs`). */

import { writeFileSync } from 'node:fs';
import { formatManual } from './settings-manual.ts';

writeFileSync('docs/settings.md', formatManual());
