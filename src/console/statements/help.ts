/** HELP: the statements, from the grammar itself. */
import { textColumns } from '../results.ts';
import type { Rule } from '../statement.ts';

/** The rule that lists the others. */
export function helpRule(rules: readonly Rule[]): Rule {
  const help = { syntax: 'HELP', does: 'this list' };
  const rows = [...rules.flatMap((rule) => rule.help ?? []), help].map(({ syntax, does }) => [syntax, does]);
  return {
    begins: 'HELP',
    help,
    parse: () => ({
      tag: 'HELP',
      columns: textColumns('statement', 'description'),
      requires: undefined,
      run: () => ({ rows }),
    }),
  };
}
