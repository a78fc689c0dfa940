/**
 * Warnings about rules that are valid and do other than they seem to: lines that never match,
 * tokens that travel in clear text, and operators who are shut out.
 */
import { RULES_SETTING } from './auth-rule-syntax.ts';
import { type AuthRule, type AuthRules, takesTokens } from './auth-rules.ts';

/** The database of the console on a listener. */
const CONSOLE = 'pgsso';

/** Pairs of lines are compared, and the rules stay the same while other settings change. */
const known = new WeakMap<AuthRules, readonly string[]>();

/** One sentence or two for each line that the operator should look at. */
export function authRuleWarnings(rules: AuthRules): readonly string[] {
  const warnings = known.get(rules) ?? warningsOf(rules);
  known.set(rules, warnings);
  return warnings;
}

function warningsOf({ rules }: AuthRules): readonly string[] {
  return [
    ...rules.flatMap((rule, index) => warnOfUnreachable(rule, rules.slice(0, index))),
    ...rules.filter(takesTokensInClearText).map(warnOfClearText),
    ...(opensConsole(rules) ? [] : [NO_CONSOLE]),
  ];
}

const NO_CONSOLE =
  `no line of ${RULES_SETTING} lets anybody log in to the database ${CONSOLE}: ` +
  'the console has only the Unix socket in --data-dir';

function warnOfUnreachable(rule: AuthRule, earlier: readonly AuthRule[]): string[] {
  const cover = earlier.find((other) => covers(other, rule));
  if (!cover) return [];
  return [
    `line ${rule.line} of ${RULES_SETTING} never matches: ` +
      `line ${cover.line} comes first and matches all that it would`,
  ];
}

/** Whether every login that the other rule matches also matches this one, as far as is plain. */
function covers(rule: AuthRule, other: AuthRule): boolean {
  // Without folding a name has fewer spellings, and the same text matches fewer logins.
  const samePlace = (a: string, b: string): boolean =>
    a === b && (rule.policy.folds || !other.policy.folds);
  return (
    (rule.type === 'host' || rule.type === other.type) &&
    (rule.address === 'all' || rule.address === other.address) &&
    (rule.users === 'all' || samePlace(rule.users, other.users)) &&
    (samePlace(rule.databases, other.databases) ||
      // `all` is every database, and no replication.
      (rule.databases === 'all' && !listed(other.databases).includes('replication')))
  );
}

function takesTokensInClearText({ method, type, address }: AuthRule): boolean {
  return takesTokens(method) && type !== 'hostssl' && (address === 'all' || address.endsWith('/0'));
}

function warnOfClearText({ line, address }: AuthRule): string {
  const from = address === 'all' ? 'any address' : address;
  return (
    `line ${line} of ${RULES_SETTING} takes tokens from ${from} without TLS: ` +
    'whoever reads the network can log in with them. Write hostssl'
  );
}

function opensConsole(rules: readonly AuthRule[]): boolean {
  const closing = rules.findIndex(
    ({ method, type, users, address, databases }) =>
      method === 'reject' &&
      type === 'host' &&
      users === 'all' &&
      address === 'all' &&
      listed(databases).some(isConsole),
  );
  return rules
    .slice(0, closing < 0 ? undefined : closing)
    .some(
      ({ method, databases }) =>
        method !== 'reject' &&
        listed(databases).some((name) => isConsole(name) || isExpression(name)),
    );
}

/** The names of a field. An expression may come in pieces. */
function listed(names: string): readonly string[] {
  return names.split(',');
}

function isConsole(name: string): boolean {
  return name === 'all' || name === CONSOLE || name === `"${CONSOLE}"`;
}

function isExpression(name: string): boolean {
  return name.startsWith('/') || name.startsWith('"/');
}
