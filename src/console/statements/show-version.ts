/** SHOW VERSION: what runs here. */
import { textColumns } from '../results.ts';
import type { Rule } from '../statement.ts';

export const showVersion: Rule = {
  begins: 'SHOW VERSION',
  help: { syntax: 'SHOW VERSION', does: 'the versions of pgsso and of Node.js' },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('version'),
    requires: { right: 'view', to: 'show the version' },
    run: ({ parts }) => ({ rows: [[`pgsso ${parts.version}, Node.js ${process.versions.node}`]] }),
  }),
};
