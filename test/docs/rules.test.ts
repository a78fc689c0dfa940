/** The recipes of docs/rules.md: each is valid, and lets in whom it says. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { RULES_SETTING } from '../../src/settings/auth-rule-syntax.ts';
import { authRuleWarnings } from '../../src/settings/auth-rule-warnings.ts';
import { parseAuthRules, type RuleQuery } from '../../src/settings/auth-rules.ts';

const manual = readFileSync(new URL('../../../docs/rules.md', import.meta.url), 'utf8');
const [reference = '', tried = ''] = manual.split(/^# Recipes$/m);
const recipes = tried.split(/^## /m).slice(1);
/** The rules in a part of the page. A line that ends with a backslash goes on. */
const rulesOf = (text: string): string =>
  [...text.matchAll(/^ {4}(host(?:ssl)? (?:.*\\\n)*.*)$/gm)].map(([, line]) => line).join('\n');

const client: RuleQuery = {
  address: '198.51.100.7',
  tls: true,
  database: 'app',
  user: 'alice',
  replication: false,
};

/** The recipe, logins, and the method and the number of the rule that each finds. */
const logins: readonly [string, readonly [Partial<RuleQuery>, string | undefined, number][]][] = [
  [
    'Clients that cannot send options',
    [
      [{}, 'jwt', 1],
      [{ tls: false }, undefined, 0],
    ],
  ],
  [
    'psql 18 for people, tokens for programs',
    [
      [{ address: '10.20.1.1' }, 'jwt', 1],
      [{}, 'oauth', 2],
    ],
  ],
  [
    'Any psql in the office, tokens elsewhere',
    [
      [{ address: '192.0.2.7' }, 'device', 1],
      [{}, 'jwt', 2],
    ],
  ],
  [
    'People with tokens, services with passwords',
    [
      [{ user: 'svc_mail', address: '10.20.1.1' }, 'native', 1],
      [{ user: 'svc_mail' }, 'reject', 2],
      [{ user: 'SVC_mail' }, 'reject', 2],
      [{ address: '10.20.1.1' }, 'jwt', 3],
    ],
  ],
  [
    'Nobody is superuser from outside',
    [
      [{ user: 'postgres' }, 'reject', 1],
      [{ user: 'Root', tls: false }, 'reject', 1],
      [{}, 'jwt', 2],
    ],
  ],
  [
    'One audience for each database',
    [
      [{ database: 'sales' }, 'jwt', 1],
      [{ database: 'payroll' }, 'jwt', 2],
      [{ database: 'pgsso' }, 'jwt', 3],
      [{}, undefined, 0],
    ],
  ],
  [
    'One issuer for each database',
    [
      [{ database: 'exchange' }, 'jwt', 1],
      [{}, 'jwt', 2],
    ],
  ],
  [
    'A scope for the database',
    [
      [{ database: 'reports' }, 'jwt', 1],
      [{}, 'jwt', 2],
    ],
  ],
  [
    'One tenant of Entra ID, and only applications',
    [
      [{ user: 'app_etl' }, 'jwt', 1],
      [{}, 'jwt', 2],
    ],
  ],
  [
    'Members of a group',
    [
      [{ database: 'payroll' }, 'jwt', 1],
      [{}, 'jwt', 2],
    ],
  ],
  [
    "GitHub's workflows of one repository",
    [
      [{ user: 'deploy' }, 'jwt', 1],
      [{ user: 'DEPLOY' }, 'jwt', 1],
      [{}, 'jwt', 2],
    ],
  ],
  ['Roles with letters of their own', [[{ user: 'Alice@Example.com' }, 'jwt', 1]]],
  [
    'The console only from the office',
    [
      [{ database: 'pgsso', address: '192.0.2.9' }, 'jwt', 1],
      [{ database: 'pgsso' }, 'reject', 2],
      [{}, 'jwt', 3],
    ],
  ],
  [
    'One replica, and a way in when the identity provider is down',
    [
      [{ user: 'replica', address: '10.30.0.5', replication: true }, 'native', 1],
      [{ replication: true }, undefined, 0],
      [{ user: 'rescue', address: '10.30.0.9' }, 'native', 2],
      [{ user: 'rescue' }, 'reject', 3],
      [{}, 'jwt', 4],
    ],
  ],
  [
    "From CockroachDB's configuration",
    [
      [{ user: 'root', address: '127.0.0.1', tls: false }, 'native', 1],
      [{ user: 'root', address: '10.1.2.3' }, 'reject', 2],
      [{ address: '10.1.2.3' }, 'jwt', 3],
      [{}, 'reject', 4],
    ],
  ],
  [
    "From YugabyteDB's jwt lines",
    [
      [{}, 'jwt', 1],
      [{ tls: false }, undefined, 0],
    ],
  ],
];

t.test('the rules at the beginning of docs/rules.md are valid', async (t) => {
  const [example = '', set = ''] = reference.split('    SET CLUSTER SETTING ');
  t.equal(parseAuthRules(rulesOf(example)).rules.length, 3);
  const [, name, text = ''] = /^(\S+) =\n +'([^']*)';/.exec(set) ?? [];
  t.equal(name, RULES_SETTING);
  t.equal(parseAuthRules(text).rules.length, 2, 'those of the SET');
});

for (const [title, rows] of logins) {
  t.test(`the recipe "${title}" lets in whom it says`, async (t) => {
    const recipe = recipes.find((text) => text.startsWith(`${title}\n`)) ?? '';
    const parsed = parseAuthRules(rulesOf(recipe));
    t.strictSame(authRuleWarnings(parsed), [], 'no line is warned of');
    for (const [query, method, place] of rows) {
      const found = parsed.find({ ...client, ...query });
      t.equal(found?.method, method, JSON.stringify(query));
      t.equal(found && parsed.rules.indexOf(found) + 1, place || undefined, JSON.stringify(query));
    }
    t.strictSame(
      parsed.rules.filter((_, index) => !rows.some(([, , place]) => place === index + 1)),
      [],
      'each line is tried',
    );
  });
}

t.test('each recipe of docs/rules.md is tried', async (t) => {
  t.strictSame(
    recipes.map((text) => text.split('\n')[0]),
    logins.map(([title]) => title),
  );
});
