/**
 * The parameter `options`: where the JWT option is found, what is left for the backend, and what
 * never reaches it.
 */

import fc from 'fast-check';
import t from 'tap';
import { readOptions } from '../../src/wire/options.ts';
import {
  backendParameters,
  readParameters,
  type StartupParameter,
} from '../../src/wire/startup.ts';

function parameters(pairs: readonly (readonly [string, string])[]): StartupParameter[] {
  return pairs.map(([name, value]) => ({ name, value: Buffer.from(value) }));
}

function takeJwtOption(text: string): { enabled: boolean | undefined; rest: string } {
  const { enabled, forwarded } = readOptions(text, [], []);
  return { enabled, rest: forwarded };
}

function takeDeviceOption(text: string): { asked: boolean | undefined; rest: string } {
  const { device, forwarded } = readOptions(text, [], []);
  return { asked: device, rest: forwarded };
}

function namesSetting(text: string, wanted: readonly string[]): boolean {
  return readOptions(text, [], wanted).namesSetting;
}

t.test('the JWT option is taken out in every accepted spelling', async (t) => {
  const rows: [string, boolean | undefined, string][] = [
    ['--crdb:jwt_auth_enabled=true', true, ''],
    ['-c crdb:jwt_auth_enabled=true', true, ''],
    ['-ccrdb:jwt_auth_enabled=true', true, ''],
    ['--crdb:jwt-auth-enabled=true', true, ''],
    ['--CRDB:JWT_Auth_Enabled=TRUE', true, ''],
    ['  --crdb:jwt_auth_enabled=1  ', true, ''],
    ['--crdb:jwt_auth_enabled=false', false, ''],
    ['--crdb:jwt_auth_enabled=F -c geqo=off', false, '-c geqo=off'],
    ['-c geqo=off --crdb:jwt_auth_enabled=t', true, '-c geqo=off '],
    [
      '-c geqo=off -c crdb:jwt_auth_enabled=t -c search_path=a\\ b',
      true,
      '-c geqo=off -c search_path=a\\ b',
    ],
    ['--crdb:jwt_auth_enabled=true --crdb:jwt_auth_enabled=false', false, ''],
    ['--crdb:jwt_auth_enable\\d=true', true, ''],
    ['-c geqo=off', undefined, '-c geqo=off'],
    ['', undefined, ''],
    ['-c search_path=crdb:jwt_auth_enabled', undefined, '-c search_path=crdb:jwt_auth_enabled'],
    ['--crdb%3Ajwt_auth_enabled%3Dtrue', true, ''],
    ['--crdb%3ajwt_auth_enabled=true -c search_path=a%20b', true, '-c search_path=a b'],
    ['-c search_path=100%', undefined, '-c search_path=100%'],
    ['-c search_path=a%20b', undefined, '-c search_path=a%20b'],
    ['--crdb:jwt_auth_enabled=true -c search_path=a%20b', true, '-c search_path=a%20b'],
    ['--crdb%3Ajwt_auth_enabled=true -c x=a+b', true, '-c x=a+b'],
  ];
  for (const [text, enabled, rest] of rows)
    t.strictSame(takeJwtOption(text), { enabled, rest }, text);
});

t.test('the option of a device login is taken out, and the rest keeps its bytes', async (t) => {
  const rows: [string, boolean | undefined, string][] = [
    ['', undefined, ''],
    ['-c geqo=off', undefined, '-c geqo=off'],
    ['--pgsso:device_login=true', true, ''],
    ['-c PGSSO:Device-Login=f  -c search_path=a\\ b', false, '-c search_path=a\\ b'],
    ['-c geqo=off -cpgsso:device_login=0 --pgsso:device_login=1', true, '-c geqo=off '],
    ['--pgsso%3Adevice_login%3Dtrue', true, ''],
    ['--pgsso:device_login=true -c search_path=a%20b', true, '-c search_path=a%20b'],
    ['-c pgsso:device_login_x=true', undefined, '-c pgsso:device_login_x=true'],
    ['-c application_name=pgsso', undefined, '-c application_name=pgsso'],
  ];
  t.strictSame(
    rows.map(([text]) => {
      const { asked, rest } = takeDeviceOption(text);
      return [text, asked, rest];
    }),
    rows,
  );
  const refused: [string, string, RegExp][] = [
    ['--pgsso:device_login=yes', '22023', /^invalid value for pgsso:device_login: "yes"$/],
    ['--pgsso:device_login', '08P01', /is not of the form --pgsso:device_login=true or -c/],
    ['pgsso:device_login=true', '08P01', /"pgsso:device_login=true"/],
  ];
  for (const [text, sqlstate, message] of refused)
    t.throws(() => takeDeviceOption(text), { sqlstate, message }, text);
});

t.test('a malformed JWT option is refused with its own text', async (t) => {
  const rows: [string, string, RegExp][] = [
    ['--crdb:jwt_auth_enabled=yes', '22023', /crdb:jwt_auth_enabled: "yes"/],
    ['--crdb:jwt_auth_enabled=', '22023', /crdb:jwt_auth_enabled/],
    ['--crdb:jwt_auth_enabled=tRUE', '22023', /crdb:jwt_auth_enabled/],
    ['--crdb:jwt_auth_enabled', '08P01', /"--crdb:jwt_auth_enabled"/],
    ['-c crdb:jwt_auth_enabled', '08P01', /"crdb:jwt_auth_enabled"/],
    ['crdb:jwt_auth_enabled=true', '08P01', /"crdb:jwt_auth_enabled=true"/],
    ['-crdb:jwt_auth_enabled=true', '08P01', /"-crdb:jwt_auth_enabled=true"/],
  ];
  for (const [text, sqlstate, message] of rows)
    t.throws(() => takeJwtOption(text), { sqlstate, message }, text);
});

t.test('a misspelt JWT option is found by its name, and left to the backend', async (t) => {
  const rows: [Record<string, string>, string | undefined][] = [
    [{ options: '--jwt_auth_enabled=true' }, '--jwt_auth_enabled'],
    [{ options: '-c geqo=off -c JWT-Auth=1' }, 'JWT-Auth'],
    [{ options: '-c crdb:jwtauth_enabled=true' }, 'crdb:jwtauth_enabled'],
    [{ options: '--crdb:jtw_auth_enabled=true' }, '--crdb:jtw_auth_enabled'],
    [{ options: 'jwt_auth' }, 'jwt_auth'],
    [{ options: '--crdb%3Ajwt_auth%3Dtrue' }, '--crdb:jwt_auth'],
    [{ 'crdb:jwt_auth': 'true' }, 'crdb:jwt_auth'],
    [{ options: '-c application_name=jwt_auth' }, undefined],
    [{ options: '-c geqo=off', user: 'jwt_auth' }, undefined],
    [{ options: '--crdb:jwt_auth_enabled=false --jwt_auth=1' }, undefined],
    [{ options: '--jwt_auth=1', 'crdb:jwt_auth_enabled': 'true' }, undefined],
    [{}, undefined],
  ];
  t.strictSame(
    rows.map(([sent]) => readParameters(parameters(Object.entries(sent))).misspelt),
    rows.map(([, found]) => found),
  );
  const { tokenLogin, others } = readParameters(parameters([['options', '--jwt_auth=1']]));
  t.strictSame([tokenLogin, others[0]?.value.toString()], [false, '--jwt_auth=1']);
});

/** A word of the options with its escapes. */
const escapedWord = fc
  .string({ minLength: 1, unit: fc.constantFrom(...'abc=:-_\\ \t%+"\'é') })
  .map((word) => word.replace(/[\\ \t]/g, '\\$&'))
  .filter((word) => word !== '-c');

t.test('all other words stay as they are, with their escapes', async () => {
  fc.assert(
    fc.property(fc.array(escapedWord, { maxLength: 6 }), fc.nat(6), (words, at) => {
      const others = words.join(' ');
      const place = Math.min(at, words.length);
      const text = [
        ...words.slice(0, place),
        '--crdb:jwt_auth_enabled=true',
        ...words.slice(place),
      ].join(' ');
      const { enabled, rest } = takeJwtOption(text);
      return enabled === true && rest.trimEnd() === others.trimEnd();
    }),
  );
});

t.test('without the option the text is unchanged', async () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom(...'abc=:-_\\ \t%2f+') }),
      (text) => takeJwtOption(text).rest === (text.trim() === '' ? '' : text),
    ),
  );
});

t.test('any text is accepted or refused in linear time', async (t) => {
  fc.assert(
    fc.property(
      fc.string({ maxLength: 500, unit: fc.constantFrom(...'-c crdb:jwt_auth_enabled=true\\%3D') }),
      (text) => {
        try {
          takeJwtOption(text);
        } catch (error) {
          if (!(error instanceof Error && error.name === 'PgError')) throw error;
        }
      },
    ),
  );
  t.doesNotThrow(() => takeJwtOption('\\ '.repeat(5000)));
  t.doesNotThrow(() => namesSetting(`-${'e'.repeat(9990)}`, ['role']));
});

t.test(
  'session revival, remote address and protocol options never reach the backend',
  async (t) => {
    const withheld = ['crdb:session_revival_token_base64', 'crdb:remote_addr', '_pq_.'];
    const rows: [string, string][] = [
      ['--crdb:session_revival_token_base64=x -c geqo=off', '-c geqo=off'],
      ['-c geqo=off -c CRDB:Remote-Addr=1.2.3.4:5', '-c geqo=off '],
      ['-c_pq_.x=1 -c a=b', '-c a=b'],
      ['--crdb%3Asession_revival_token_base64=x -c a=b', '-c a=b'],
      ['-c a=b%20--crdb:session_revival_token_base64=x -c c=d', '-c c=d'],
      ['-c a=b+--crdb:session_revival_token_base64=x -c c=d', '-c c=d'],
      ['-c crdb%3Aremote_addr=x', ''],
      ['-c a=b', '-c a=b'],
      ['-c application_name=crdb:remote_addr', '-c application_name=crdb:remote_addr'],
    ];
    for (const [text, rest] of rows) t.equal(readOptions(text, withheld, []).forwarded, rest, text);
  },
);

t.test('settings are found in every way in which the backend reads them', async (t) => {
  const naming = [
    '-c role=x',
    '-crole=x',
    '--role=x',
    '-ecrole=x',
    '-e -c ROLE=x',
    '-EFjOsPTnlbc role=x',
    'stray -c role=x',
    '-- -c role=x',
    '-c r\\ole=x',
    '--role%3Dx',
    '-c a=b+--role=x',
    '-S 64 -c role=x',
    '-e\x85-crole=x',
    '-e\xa0--role=x',
  ];
  for (const text of naming) t.ok(namesSetting(text, ['role']), text);
  for (const text of ['-S -crole=x', '-c search_path=role', '-d -c', '-c', '--', '-', ''])
    t.notOk(namesSetting(text, ['role']), text);
  t.ok(namesSetting('-c session-authorization=x', ['session_authorization']));
});

t.test('the parameters of a startup packet as a login', async (t) => {
  const login = readParameters(
    parameters([
      ['user', 'alice'],
      ['database', 'db'],
      ['application_name', 'psql'],
      ['options', '-c geqo=off --crdb:jwt_auth_enabled=true'],
      ['_pq_.extra', '1'],
      ['CRDB:remote_addr', '1.2.3.4:5'],
      ['replication', 'database'],
    ]),
  );
  t.match(login, { tokenLogin: true, namesRole: false, protocolOptions: ['_pq_.extra'] });
  t.strictSame(
    backendParameters(login, Buffer.from('mapped')).map(({ name, value }) => `${name}=${value}`),
    [
      'user=mapped',
      'database=db',
      'application_name=psql',
      'replication=database',
      'options=-c geqo=off ',
    ],
  );
});

t.test('a second user in another case of letters is not missed', async (t) => {
  const login = readParameters(
    parameters([
      ['user', 'alice'],
      ['USER', 'root'],
      ['Options', '--crdb:jwt_auth_enabled=true'],
      ['DATABASE', 'x'],
    ]),
  );
  t.equal(login.user?.toString(), 'root', 'the last one counts, and is the one that is checked');
  t.equal(login.tokenLogin, true);
  t.strictSame(
    backendParameters(login, Buffer.from('alice')).map(({ name }) => name),
    ['user', 'database'],
  );
});

t.test('replication is plainly on or off, whichever value a server takes', async (t) => {
  const replicationOf = (...values: readonly string[]): boolean =>
    readParameters(parameters(values.map((value) => ['replication', value]))).replication;
  for (const value of ['true', 'on', 'YES', '1', 'database']) t.ok(replicationOf(value), value);
  for (const value of ['false', 'off', 'No', '0', '']) t.notOk(replicationOf(value), value);
  t.notOk(replicationOf());
  t.ok(replicationOf('database', 'true'));
  const invalid = { code: 'invalid_replication', sqlstate: '22023' };
  for (const value of ['f', 'n', 'of', 't', ' off', 'off\xa0', '2', `\x1b${'x'.repeat(9000)}`]) {
    t.throws(() => replicationOf(value), invalid, value.slice(0, 8));
  }
  // The server takes the last one: a line of replication would be passed to another session.
  t.throws(() => replicationOf('true', 'off'), invalid);
  t.throws(() => replicationOf('off', 'database'), invalid);
  const letters = [
    ['REPLICATION', 'true'],
    ['replication', 'off'],
  ] as const;
  t.throws(() => readParameters(parameters(letters)), invalid);
});

t.test('the JWT option as a parameter counts more than the options, and stays here', async (t) => {
  const name = 'crdb:jwt_auth_enabled';
  const rows: [[string, string][], boolean][] = [
    [[[name, 'true']], true],
    [[['CRDB:JWT_Auth_Enabled', '1']], true],
    [[[name, 'false']], false],
    [
      [
        [name, 'false'],
        [name, 'true'],
      ],
      true,
    ],
    [
      [
        [name, 'true'],
        ['options', `--${name}=false`],
      ],
      true,
    ],
    [
      [
        ['options', `--${name}=true`],
        [name, 'f'],
      ],
      false,
    ],
  ];
  for (const [pairs, tokenLogin] of rows) {
    const login = readParameters(parameters([['user', 'alice'], ...pairs]));
    t.equal(login.tokenLogin, tokenLogin, pairs.join(' '));
    t.strictSame(login.others, [], 'none of it is for the backend');
  }
  for (const value of ['', 'yes', 'TrUe', 'true\u0000x'])
    t.throws(() => readParameters(parameters([[name, value]])), {
      sqlstate: '22023',
      message: /^invalid value for crdb:jwt_auth_enabled/,
    });
});

t.test('an absent user or database stays absent', async (t) => {
  const login = readParameters(parameters([['options', '--crdb:jwt_auth_enabled=true']]));
  t.strictSame([login.user, login.database], [undefined, undefined]);
  t.strictSame(
    backendParameters(login, Buffer.from('u')).map(({ name }) => name),
    ['user'],
  );
});

t.test('a role in the startup packet is found wherever it is', async (t) => {
  const rows: [string, string][] = [
    ['role', 'x'],
    ['ROLE', 'x'],
    ['session_authorization', 'x'],
    ['options', '-crole=x'],
    ['options', '-ec --crdb:jwt_auth_enabled=true role=x'],
  ];
  for (const row of rows)
    t.equal(readParameters(parameters([['user', 'a'], row])).namesRole, true, row.join('='));
  t.equal(readParameters(parameters([['user', 'role']])).namesRole, false);
});

t.test('bytes that are not UTF-8 stay unchanged', async (t) => {
  const value = Buffer.from([0x2d, 0x63, 0x20, 0x61, 0x3d, 0xff, 0xfe]);
  const login = readParameters([
    { name: 'options', value },
    { name: 'database', value: Buffer.from([0xe9]) },
  ]);
  t.strictSame(login.others[0]?.value, value);
  t.strictSame(login.database, Buffer.from([0xe9]));
});

/** The quickest of several runs, in milliseconds: a loaded machine slows down only some of them. */
function quickest(work: () => unknown): number {
  const times = Array.from({ length: 20 }, () => {
    const started = performance.now();
    try {
      work();
    } catch (error) {
      if (!(error instanceof Error && error.name === 'PgError')) throw error;
    }
    return performance.now() - started;
  });
  return Math.min(...times);
}

t.test('a startup packet with 4,900 words in options does not hold up the others', async (t) => {
  const words = ' %'.repeat(4900);
  const tooMany = {
    code: 'too_many_options',
    sqlstate: '08P01',
    message: 'too many words in options',
  };
  t.throws(() => readParameters(parameters([['options', words]])), tooMany);
  t.throws(() => readParameters(parameters([['options', '+a'.repeat(4900)]])), tooMany);
  t.throws(() => readParameters(parameters([['options', '%20a'.repeat(2400)]])), tooMany);
  const cases = [
    words,
    `${' %'.repeat(120)} -c x=${'%41'.repeat(3000)}`,
    '+a'.repeat(4900),
    `-${'e'.repeat(9700)}+%41\x85`,
    `${'-'.repeat(9800)}+%41\x85`,
    ` -c${'A-'.repeat(17)}%2b`.repeat(120),
    `${'%5ca'.repeat(2400)}+\x85`,
    '-c a=b+-c'.padEnd(9600, '+%2B'),
    `-ca=${'%41+\\y'.repeat(13)} `.repeat(120),
    `-c a=${'%41%+%2b\\%a'.repeat(880)}`,
  ];
  for (const options of cases) {
    const packet = [{ name: 'options', value: Buffer.from(options, 'latin1') }];
    t.ok(quickest(() => readParameters(packet)) < 3, options.slice(0, 20));
  }
});

t.test('128 words in options are taken, and one more is refused', async (t) => {
  const options = '-cgeqo=off '.repeat(128);
  t.strictSame(takeJwtOption(options), { enabled: undefined, rest: options });
  t.throws(() => takeJwtOption(`${options}x`), { code: 'too_many_options' });
});

t.test('a value in options neither floods a message nor controls a terminal', async (t) => {
  const long = `\x1b[2J${'x'.repeat(9000)}`;
  for (const text of [`--crdb:jwt_auth_enabled=${long}`, `crdb:jwt_auth_enabled=${long}`]) {
    try {
      takeJwtOption(text);
      t.fail('taken');
    } catch (error) {
      const { message } = error as Error;
      t.ok(message.length < 400, `${message.length} characters`);
      t.match(message, '\\x1b[2J');
    }
  }
  const utf8 = Buffer.from('--crdb:jwt_auth_enabled=é').toString('latin1');
  t.throws(() => takeJwtOption(utf8), { message: 'invalid value for crdb:jwt_auth_enabled: "é"' });
});

t.test('a percent-encoded plus separates words, as CockroachDB reads it', async (t) => {
  t.ok(namesSetting('x%2b--role=x', ['role']));
  t.notOk(namesSetting('x%2c--role=x', ['role']));
});
