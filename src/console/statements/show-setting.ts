/** SHOW CLUSTER SETTING name: one row and one column, which is named after the setting. */
import { textColumns } from '../results.ts';
import type { Rule } from '../statement.ts';
import { readSetting } from './set-setting.ts';

export const showSetting: Rule = {
  begins: 'SHOW CLUSTER SETTING',
  help: { syntax: 'SHOW CLUSTER SETTING name', does: 'the value of a setting' },
  parse(reader) {
    const name = readSetting(reader);
    return {
      tag: 'SHOW',
      columns: textColumns(name),
      requires: { right: 'view', to: `show cluster setting '${name}'` },
      run: (session) => ({ rows: [[session.stateOf(name).text]] }),
    };
  },
};
