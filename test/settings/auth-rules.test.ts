/** The rules: their syntax, which clients a line matches, and what is refused when they are set. */
import fc from 'fast-check';
import t from 'tap';
import { foldName } from '../../src/lib/text.ts';
import { authRuleWarnings } from '../../src/settings/auth-rule-warnings.ts';
import { parseAuthRules, type RuleQuery } from '../../src/settings/auth-rules.ts';

const client: RuleQuery = {
  address: '10.1.2.3',
  tls: true,
  database: 'sales',
  user: 'alice',
  replication: false,
};

/** The line that a client finds, or undefined. */
function lineFor(text: string, query: Partial<RuleQuery> = {}): number | undefined {
  return parseAuthRules(text).find({ ...client, ...query })?.line;
}

t.test('an empty setting leaves every login to the database', async (t) => {
  for (const text of ['', '  \n\n', '# only a comment']) {
    const rule = parseAuthRules(text).find({ ...client, tls: false, replication: true });
    t.match(rule, { method: 'native', written: 'host all all all native' }, text);
  }
});

const matching: readonly {
  readonly when: string;
  readonly rule: string;
  readonly yes: readonly Partial<RuleQuery>[];
  readonly no: readonly Partial<RuleQuery>[];
}[] = [
  {
    when: 'host is with and without TLS',
    rule: 'host all all all jwt',
    yes: [{ tls: true }, { tls: false }],
    no: [],
  },
  {
    when: 'hostssl is with TLS',
    rule: 'hostssl all all all jwt',
    yes: [{ tls: true }],
    no: [{ tls: false }],
  },
  {
    when: 'hostnossl is without TLS',
    rule: 'hostnossl all all all jwt',
    yes: [{ tls: false }],
    no: [{ tls: true }],
  },
  {
    when: 'names are listed with commas, and white space may follow a comma',
    rule: 'host db1,db2, db3 alice,bob all jwt',
    yes: [{ database: 'db1' }, { database: 'db3', user: 'bob' }],
    no: [{ database: 'db4' }, { database: 'db1', user: 'carol' }],
  },
  {
    when: 'a quoted keyword is a name',
    rule: 'host "all" "all" all jwt',
    yes: [{ database: 'all', user: 'all' }],
    no: [{}, { database: 'all' }],
  },
  {
    when: 'a quoted name holds commas, spaces and quotes',
    rule: 'host "a, b" "a ""c""" all jwt',
    yes: [{ database: 'a, b', user: 'a "c"' }],
    no: [{ database: 'a', user: 'a "c"' }],
  },
  {
    when: 'an expression is RE2 and counts letters as they are',
    rule: 'host /^sales_\\d+$ /^app_ all jwt',
    yes: [{ database: 'sales_7', user: 'app_x' }],
    no: [
      { database: 'sales_x', user: 'app_x' },
      { database: 'sales_7', user: 'my_app_x' },
    ],
  },
  {
    when: 'a quoted expression may hold a comma',
    rule: 'host "/^db\\d{2,4}$" all all jwt',
    yes: [{ database: 'db123' }],
    no: [{ database: 'db1' }],
  },
  {
    when: 'sameuser is a database with the name of the user',
    rule: 'host sameuser all all jwt',
    yes: [{ database: 'alice' }, { database: undefined }, { database: '' }],
    no: [{ database: 'sales' }, { database: undefined, user: undefined }],
  },
  {
    when: 'an absent database has the name of the user',
    rule: 'host alice all all jwt',
    yes: [{ database: undefined }, { database: '' }],
    no: [{ database: 'bob' }, { database: undefined, user: 'bob' }],
  },
  {
    when: 'replication matches a startup that asks for it, and only that',
    rule: 'host replication all all jwt',
    yes: [{ replication: true }],
    no: [{ replication: false, database: 'replication' }],
  },
  {
    when: 'all and a name match no startup that asks for replication',
    rule: 'host all,sales all all jwt',
    yes: [{}],
    no: [{ replication: true }],
  },
  {
    when: 'a network holds its addresses, of its family only',
    rule: 'host all all 10.0.0.0/8 jwt',
    yes: [{ address: '10.255.0.1' }, { address: '::ffff:10.1.2.3' }],
    no: [{ address: '11.0.0.1' }, { address: '2001:db8::1' }, { address: undefined }],
  },
  {
    when: 'the whole of IPv4 is not IPv6',
    rule: 'host all all 0.0.0.0/0 jwt',
    yes: [{ address: '192.0.2.1' }],
    no: [{ address: '2001:db8::1' }],
  },
  {
    when: 'an IPv6 network',
    rule: 'host all all 2001:db8::/32 jwt',
    yes: [{ address: '2001:db8:1::1' }],
    no: [{ address: '2001:db9::1' }, { address: '10.1.2.3' }],
  },
  {
    when: 'an address with its mask in a column of its own',
    rule: 'host all all 10.1.0.0 255.255.0.0 jwt',
    yes: [{ address: '10.1.9.9' }],
    no: [{ address: '10.2.0.1' }],
  },
  {
    when: 'an IPv6 address with its mask',
    rule: 'host all all 2001:db8:: ffff:ffff:: jwt',
    yes: [{ address: '2001:db8::1' }],
    no: [{ address: '2001:db9::1' }],
  },
  {
    when: 'samehost is an address of this host',
    rule: 'host all all samehost jwt',
    yes: [{ address: '127.0.0.1' }],
    no: [{ address: '192.0.2.77' }],
  },
  {
    when: 'an absent user matches all only',
    rule: 'host all all all jwt',
    yes: [{ user: undefined }, { user: '' }],
    no: [],
  },
  {
    when: 'an absent user matches no name and no expression',
    rule: 'host all alice,/.* all jwt',
    yes: [{ user: 'alice' }],
    no: [{ user: undefined }, { user: '' }],
  },
  {
    when: 'a name matches in other letters, since a token user is folded',
    rule: 'host all alice all jwt',
    yes: [{ user: 'ALICE' }, { user: 'Alice' }],
    no: [{ user: 'alicia' }],
  },
  {
    when: 'with fold=no a name is compared exactly',
    rule: 'host all Alice@example.com all jwt fold=no',
    yes: [{ user: 'Alice@example.com' }],
    no: [{ user: 'alice@example.com' }],
  },
];
for (const { when, rule, yes, no } of matching) {
  t.test(when, async (t) => {
    for (const query of yes) t.equal(lineFor(rule, query), 1, JSON.stringify(query));
    for (const query of no) t.equal(lineFor(rule, query), undefined, JSON.stringify(query));
  });
}

t.test('the first line that matches counts, and lines are numbered as written', async (t) => {
  const text = [
    '# TYPE DATABASE USER ADDRESS METHOD',
    '',
    'hostssl all /^app_ 10.0.0.0/8 jwt # services',
    'host all postgres all \\',
    '  reject',
    'host all all all native',
  ].join('\r\n');
  t.equal(lineFor(text, { user: 'app_1' }), 3);
  t.equal(lineFor(text, { user: 'postgres' }), 4);
  t.equal(lineFor(text, { user: 'bob' }), 6);
});

t.test('the options of a line, by the names of PostgreSQL and of YugabyteDB', async (t) => {
  const read = (options: string) =>
    parseAuthRules(`host all all all jwt ${options}`).rules[0]?.policy;
  t.match(read('issuer=https://a jwt_audiences="sales, reports"'), {
    issuers: ['https://a'],
    audiences: ['sales', 'reports'],
  });
  t.match(read('jwt_issuers="https://a,https://b" audience=x map=people scope="openid db"'), {
    issuers: ['https://a', 'https://b'],
    audiences: ['x'],
    map: 'people',
    scope: ['openid', 'db'],
  });
  t.match(read('claims="{""tid"":""42"",""idtyp"":""app"",""n"":1}" claim=oid'), {
    claims: new Map<string, unknown>([
      ['tid', '42'],
      ['idtyp', 'app'],
      ['n', 1],
    ]),
    claim: 'oid',
  });
  t.match(read('groups="DBAs,Team A" fold=yes'), { groups: ['dbas', 'team a'], folds: true });
});

const refused: readonly (readonly [string, RegExp])[] = [
  ['local all all peer', /line 1 .*local lines have no meaning/],
  ['hostgssenc all all all native', /line 1 .*"hostgssenc" is not one of host, hostssl/],
  ['host all all all', /TYPE DATABASE USER ADDRESS METHOD/],
  ['\nhost all', /line 2 .*TYPE DATABASE USER/],
  [
    'host all all all scram-sha-256',
    /"scram-sha-256" is not one of native, jwt, oauth, device, reject/,
  ],
  ['host all all all trust', /"trust" is not one of/],
  ['host all +admins all jwt', /members of a role are not known/],
  ['host samerole all all jwt', /members of a role are not known/],
  ['host @dbs all all jwt', /other files are not read/],
  ['host all all db.example.com jwt', /neither all, samehost, an address with its mask/],
  ['host all all .example.com jwt', /neither all, samehost/],
  ['host all all samenet jwt', /neither all, samehost/],
  ['host all all 10.1.2.3 jwt', /neither all, samehost/],
  ['host all all 10.0.0.0/33 jwt', /is not a network/],
  ['host all all 10.0.0.0 255.0.255.0 jwt', /neither all, samehost/],
  ['host all,, all all jwt', /comma without a name/],
  ['host all, all all jwt', /TYPE DATABASE USER|is not one of|neither/],
  ['host "all all all jwt', /a quote is not closed/],
  ['host "" all all jwt', /a name is empty/],
  ['host all /( all jwt', /line 1 .*error parsing regexp/],
  ['host all all all native map=x', /options are for lines of tokens/],
  ['host all all all jwt nosuch=1', /no option "nosuch"; there are issuer/],
  ['host all all all jwt audience=a jwt_audiences=b', /given twice/],
  ['host all all all jwt audience=a,b', /a value with commas is quoted/],
  ['host all all all jwt audience=', /is empty/],
  ['host all all all jwt fold=maybe', /fold is yes or no/],
  ['host all all all jwt claim=/a~2', /line 1 .*the JSON Pointer "\/a~2" has more than 10 members/],
  ['host all all all jwt claims=[1]', /claims is a JSON object/],
  ['host all all all jwt claims="{""a"":[1]}"', /neither text, number nor boolean/],
  ['host all a all jwt fold=no\nhost all b all jwt', /line 2 .*fold differs from line 1/],
  ['host all all all jwt \\', /ends with a backslash/],
  ['include other.conf', /"include" is not one of/],
];
for (const [text, message] of refused) {
  t.test(`refused when it is set: ${text}`, async (t) => {
    t.throws(() => parseAuthRules(text), { name: 'PgError', sqlstate: '22023', message });
  });
}

t.test('a thousand lines are enough, and expressions have a budget', async (t) => {
  const lines = Array.from({ length: 1001 }, (_, i) => `host all u${i} all jwt`).join('\n');
  t.throws(() => parseAuthRules(lines), { message: /line 1001 .*more than 1000 rules/ });
  const heavy = Array.from({ length: 50 }, () => 'host all /(a{100}){10} all jwt').join('\n');
  t.throws(() => parseAuthRules(heavy), { message: /line 20 .*too large to be matched at each/ });
  try {
    parseAuthRules('host all /^[9-0]$ all jwt');
    t.fail('a reversed range was taken');
  } catch (error) {
    t.match(error, { message: /line 1 .*`9-0`/, hint: /0-9 was probably meant/ });
  }
  t.throws(() => parseAuthRules(`host all /${'a'.repeat(4097)} all jwt`), {
    message: /line 1 .*longer than 4096 characters/,
  });
  t.throws(() => parseAuthRules('host all all all jwt\nhost all "/(x{0,1000}){20}" all jwt'), {
    message: /line 2 .*the expression is too large/,
  });
  const names = (count: number): string => Array.from({ length: count }, (_, i) => `n${i}`).join();
  const values = (count: number): string => `host all all all jwt groups="${names(count)}"`;
  t.equal(parseAuthRules(`host ${names(4999)} ${names(5001)} all jwt`).rules.length, 1);
  for (const text of [
    `host all all all jwt\nhost ${names(5000)} ${names(4999)} all jwt`,
    `${values(5000)}\n${values(5000)}`,
  ]) {
    t.throws(() => parseAuthRules(text), { message: /line 2 .*more than 10000 names/ });
  }
});

t.test('no spelling of a name avoids a reject', (t) => {
  const rules = parseAuthRules('host all postgres all reject\nhost all all all native');
  const spelling = fc
    .tuple(fc.constant('postgres'), fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }))
    .map(([name, upper]) =>
      [...name].map((letter, at) => (upper[at] ? letter.toUpperCase() : letter)).join(''),
    );
  fc.assert(fc.property(spelling, (user) => rules.find({ ...client, user })?.method === 'reject'));
  // PostgreSQL cuts names to 63 bytes: a longer spelling is the same role.
  const long = 'p'.repeat(63);
  const cut = parseAuthRules(`host all ${long} all reject\nhost all all all native`);
  for (const user of [long, `${long}x`, `${long}${'é'.repeat(2000)}`, long.toUpperCase()]) {
    t.equal(cut.find({ ...client, user })?.method, 'reject', user.slice(0, 80));
  }
  t.end();
});

t.test('whatever is typed, it is rules or an error that names a line', (t) => {
  const word = fc.constantFrom(
    ...'host hostssl all sales "a b" a,b 10.0.0.0/8 ::1/128 255.0.0.0 jwt native reject'.split(' '),
    ...['/^a', '"', '#', '\\\n', '\n', 'claim=x', 'claims="{""a"":1}"', ',', 'samehost', '+r'],
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 30 }), (words) => {
      try {
        const parsed = parseAuthRules(words.join(' '));
        parsed.find(client);
        return parsed.rules.length > 0;
      } catch (error) {
        return /^line \d+ of server\.host_based/.test(String((error as Error).message));
      }
    }),
  );
  t.end();
});

t.test('folding a name does not change which line it finds twice', (t) => {
  const rules = parseAuthRules('host all alice all jwt\nhost all all all native');
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), (user) => {
      const found = rules.find({ ...client, user })?.line;
      return foldName(user) !== 'alice' || found === 1;
    }),
  );
  t.end();
});

t.test(
  'a quoted address held several networks, and escaped the warning of clear text',
  async (t) => {
    for (const address of ['"0.0.0.0/0,10.0.0.0/8"', '"10.0.0.0/8 192.0.2.0/24"'])
      t.throws(() => parseAuthRules(`host all all ${address} jwt`), {
        sqlstate: '22023',
        message: /^line 1 .*one address/,
      });
    t.equal(parseAuthRules('host all all "10.0.0.0/8" jwt').rules.length, 1);
  },
);

t.test('valid rules that do other than they seem to are warned of', async (t) => {
  const end = '\nhostssl all all all jwt';
  const rows: [string, string, RegExp[]][] = [
    ['the empty setting', '', []],
    ['tokens over TLS', 'hostssl all all all jwt', []],
    ['native logins as ever', 'host all all all native', []],
    ['tokens from anywhere', `host app all all jwt${end}`, [/^line 1 .* any address without TLS/]],
    [
      'tokens from anywhere, by network',
      `hostnossl app all 0.0.0.0/0 jwt\nhost app all ::/0 jwt${end}`,
      [/^line 1 .* from 0\.0\.0\.0\/0 without TLS/, /^line 2 .* from .*\/0 without TLS/],
    ],
    ['tokens from one network', `host app all 10.0.0.0/8 jwt${end}`, []],
    [
      'a line behind one for all',
      'hostssl all all all jwt\nhostssl sales bi 10.0.0.0/8 reject',
      [/^line 2 .* never matches: line 1 comes first/],
    ],
    [
      'a line for replication behind one for all',
      `hostssl all all all jwt
hostssl replication all all reject`,
      [],
    ],
    [
      'the same clients twice',
      `host a,b /^x all reject\nhostssl a,b /^x all jwt${end}`,
      [/^line 2 /],
    ],
    ['a reject before the rest', `host all root all reject${end}`, []],
    ['no line for the console', 'hostssl app all all jwt', [/^no line .* the database pgsso/]],
    [
      'a console behind a reject',
      'host pgsso all all reject\nhostssl all all all jwt',
      [/^no line .* the database pgsso/],
    ],
    ['a console by expression', 'hostssl /^pg all all jwt', []],
    ['a quoted name', 'hostssl "pgsso" all all jwt', []],
    ['a database with the name all', 'hostssl "all" all all jwt', [/^no line/]],
  ];
  for (const [name, text, warnings] of rows) {
    const found = authRuleWarnings(parseAuthRules(text));
    t.match(found, warnings, name);
    t.equal(found.length, warnings.length, name);
  }
});

t.test('a line that is warned of as never matching matches no login', async (t) => {
  const line = fc.tuple(
    fc.constantFrom('host', 'hostssl', 'hostnossl'),
    fc.constantFrom('all', 'sales', 'sales,replication', 'replication', 'sameuser', '/^s', '"all"'),
    fc.constantFrom('all', 'alice', 'Alice', '/^a', 'alice,bob'),
    fc.constantFrom('all', '10.0.0.0/8', '0.0.0.0/0', '::/0'),
    fc.constantFrom('jwt', 'native', 'reject'),
  );
  const query = fc.record({
    address: fc.constantFrom('10.1.2.3', '192.0.2.1', '2001:db8::1', undefined),
    tls: fc.boolean(),
    database: fc.constantFrom('sales', 'SALES', 'alice', 'all', '', undefined),
    user: fc.constantFrom('alice', 'Alice', 'ALICE', 'bob', '', undefined),
    replication: fc.boolean(),
  });
  let warned = 0;
  fc.assert(
    fc.property(fc.array(line, { minLength: 2, maxLength: 6 }), query, (lines, login) => {
      const rules = parseAuthRules(lines.map((fields) => fields.join(' ')).join('\n'));
      const found = rules.find(login)?.line;
      const dead = authRuleWarnings(rules).flatMap((text) => {
        const [, number] = /^line (\d+) .* never matches/.exec(text) ?? [];
        return number === undefined ? [] : [Number(number)];
      });
      warned += dead.length;
      return found === undefined || !dead.includes(found);
    }),
    { numRuns: 2000, seed: 10 },
  );
  t.ok(warned > 200, `${warned} lines were warned of`);
});
