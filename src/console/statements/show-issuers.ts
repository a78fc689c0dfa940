/** SHOW ISSUERS: whose tokens are taken, and what is known of their keys. What an operator ought to look at comes as WARNINGs. */
import { settingWarnings } from '../../settings/warnings.ts';
import type { Column } from '../results.ts';
import type { Rule } from '../statement.ts';

const columns: readonly Column[] = [
  { name: 'issuer', type: 'text' },
  { name: 'source', type: 'text' },
  { name: 'keys', type: 'int8' },
  { name: 'key_ids', type: 'text' },
  { name: 'fetched_at', type: 'text' },
  { name: 'age_seconds', type: 'int8' },
  { name: 'last_error', type: 'text' },
];

export const showIssuers: Rule = {
  begins: 'SHOW ISSUERS',
  help: {
    syntax: 'SHOW ISSUERS',
    does: 'the issuers, the source, number, ids and age of their keys, why keys could not be had; doubtful settings as warnings',
  },
  parse: () => ({
    tag: 'SHOW',
    columns,
    requires: { right: 'view', to: 'show issuers' },
    run({ parts: { keys, settings, now } }) {
      const { values } = settings.current;
      const { problem } = settings;
      return {
        rows: keys
          .describe(values)
          .map(({ issuer, source, keyIds, fetchedAt, lastError }) => [
            issuer,
            source,
            keyIds.length,
            keyIds.join(' '),
            fetchedAt === undefined ? undefined : new Date(fetchedAt).toISOString(),
            fetchedAt === undefined ? undefined : Math.max(0, Math.round((now() - fetchedAt) / 1000)),
            lastError,
          ]),
        warnings: [...settingWarnings(values), ...(problem === undefined ? [] : [`settings not read: ${problem}`])],
      };
    },
  }),
};
