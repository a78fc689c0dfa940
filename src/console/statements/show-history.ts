/** SHOW CLUSTER SETTING HISTORY: what was changed, by whom and when, newest first. */

import { isOfApiKey } from '../../settings/api-keys.ts';
import type { HistoryEntry } from '../../settings/history.ts';
import { textColumns } from '../results.ts';
import type { Rule } from '../statement.ts';
import { readSetting } from './set-setting.ts';

export const showHistory: Rule = {
  begins: 'SHOW CLUSTER SETTING HISTORY',
  help: {
    syntax: 'SHOW CLUSTER SETTING HISTORY [name]',
    does: 'the changes of all settings or of one, newest first; sensitive values are not kept',
  },
  parse(reader) {
    const name = reader.atEnd ? undefined : readSetting(reader);
    return {
      tag: 'SHOW',
      columns: textColumns('changed_at', 'changed_by', 'variable', 'operation', 'value'),
      requires: { right: 'view', to: 'show the history of cluster settings' },
      async run({ parts }) {
        const history = await parts.settings.history(name);
        return {
          rows: history.map((entry) => [
            new Date(entry.at).toISOString(),
            entry.user,
            entry.name,
            operationOf(entry),
            entry.text,
          ]),
        };
      },
    };
  },
};

function operationOf(entry: HistoryEntry): string {
  if (isOfApiKey(entry)) return entry.text === undefined ? 'drop' : 'create';
  return entry.text === undefined ? 'reset' : 'set';
}
