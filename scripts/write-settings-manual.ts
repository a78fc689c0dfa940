/** `npm run docs`: writes docs/settings.md. */

import { writeFileSync } from 'node:fs';
import { formatManual } from './settings-manual.ts';

writeFileSync('docs/settings.md', formatManual());
