/**
 * The groups of a token: where they come from, how they are read, which answers of userinfo are
 * accepted, and which roles the groups stand for.
 */

import { once, setMaxListeners } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import {
  emptyGroupsRefusal,
  mapGroups,
  NoUserinfoEndpoint,
  type UserinfoLookup,
} from '../../src/auth/groups.ts';
import type { PgError } from '../../src/lib/errors.ts';
import { parseKeySet } from '../../src/settings/jwks.ts';
import { parseRoleRules } from '../../src/settings/maps.ts';
import { KeyWorld, valuesFor } from '../keys/key-world.ts';
import { startIssuer } from '../support/issuer.ts';
import { startProvider } from '../support/oidc.ts';
import { keySetText, type Members, testKey } from '../support/tokens.ts';
import { authenticatorOf, login, refusalOf, requestOf, settingsOf } from './login.ts';

const ON = { 'server.jwt_authentication.authorization.enabled': true };

/** The groups of a login with these claims in its token, and this `group_claim`. */
async function groupsOf(
  claims: Members,
  claim = 'groups',
  userinfo?: UserinfoLookup,
): Promise<readonly string[] | undefined> {
  const settings = { ...ON, 'server.jwt_authentication.group_claim': claim };
  return (await login({ claims, settings, options: { userinfo } })).groups;
}

async function refusedGroups(claims: Members, userinfo?: UserinfoLookup): Promise<PgError> {
  return refusalOf({ claims, settings: ON, options: { userinfo } });
}

t.test('groups are read only if roles follow them', async (t) => {
  t.equal((await login({ claims: { groups: ['a'] } })).groups, undefined);
});

t.test('groups in a claim of the token', async (t) => {
  const table: [string, Members, string, readonly string[]][] = [
    ['an array', { groups: ['dev', 'ops'] }, 'groups', ['dev', 'ops']],
    ['one as text', { groups: 'dev' }, 'groups', ['dev']],
    ['text with commas', { groups: 'dev, ops ,,dev' }, 'groups', ['dev', 'ops']],
    [
      'a space is part of a name',
      { groups: 'domain admins,dev' },
      'groups',
      ['domain admins', 'dev'],
    ],
    ['mixed case is one group', { groups: ['Dev', 'DEV', ' dev '] }, 'groups', ['dev']],
    ['a comma inside an element', { groups: ['cn=dev,ou=groups'] }, 'groups', ['cn=dev,ou=groups']],
    [
      'elements that are not text',
      { groups: [1, true, null, { a: 1 }, ['x'], 'dev'] },
      'groups',
      ['1', 'true', 'dev'],
    ],
    ['what cannot be seen', { groups: ['a\u0000b', '\u202edev', '', ' ', 'ok'] }, 'groups', ['ok']],
    ['composed as SQL names are', { groups: ['E\u0301quipe'] }, 'groups', ['\u00e9quipe']],
    ['an empty array', { groups: [] }, 'groups', []],
    ['empty text', { groups: '' }, 'groups', []],
    ['a path', { realm_access: { roles: ['dev'] } }, 'realm_access.roles', ['dev']],
    ['a JSON Pointer', { a: { 'b/c': [{ d: ['dev'] }] } }, '/a/b~1c/0/d', ['dev']],
    ['a longer path', { a: { b: { c: 'dev' } } }, 'a.b.c', ['dev']],
    [
      'exactly that name wins',
      { 'https://x.test/g': ['top'], 'https://x': { 'test/g': ['deep'] } },
      'https://x.test/g',
      ['top'],
    ],
  ];
  for (const [name, claims, claim, expected] of table)
    t.strictSame(await groupsOf(claims, claim), expected, name);
});

t.test('a path does not reach inherited members, or members of text and lists', async (t) => {
  const asked: UserinfoLookup = async () =>
    new Map([
      ['sub', 'alice'],
      ['groups', ['from userinfo']],
    ] as [string, unknown][]);
  for (const [claims, claim] of [
    [{ a: {} }, 'a.constructor.name'],
    [{ a: {} }, 'a.__proto__'],
    [{ a: 'text' }, 'a.length'],
    [{ a: ['x'] }, 'a.0'],
    [{ groups: { a: 1 } }, 'groups'],
    [{ groups: 7 }, 'groups'],
    [{ groups: null }, 'groups'],
    [{}, 'groups'],
    [{}, ''],
  ] as [Members, string][]) {
    t.strictSame(
      await groupsOf(claims, claim, asked),
      ['from userinfo'],
      JSON.stringify([claims, claim]),
    );
  }
});

t.test('more than a thousand groups are refused', async (t) => {
  const many = Array.from({ length: 1001 }, (_, i) => `g${i}`);
  t.equal((await groupsOf({ groups: many.slice(1) }))?.length, 1000);
  t.match(await refusedGroups({ groups: many }), {
    code: 'empty_group_list',
    reason: /more than 1000 groups/,
  });
});

t.test("Entra's overage is refused, and the refusal says what to do", async (t) => {
  for (const claims of [
    { _claim_names: { groups: 'src1' }, _claim_sources: { src1: {} } },
    { hasgroups: true },
    { hasgroups: 'true' },
  ]) {
    t.match(await refusedGroups(claims), {
      sqlstate: '28000',
      code: 'groups_overage',
      detail: /only the groups that are assigned to the application/,
      fault: 'identity provider',
    });
  }
  t.strictSame(await groupsOf({ groups: ['dev'], hasgroups: true }), ['dev']);
});

/** A userinfo endpoint. The test sets its answer. */
const answers = { status: 200, body: '{}', authorization: '' };
const server = createServer((request, response) => {
  answers.authorization = String(request.headers.authorization);
  response.writeHead(answers.status, { 'content-type': 'application/json' }).end(answers.body);
}).listen(0, '127.0.0.1');
await once(server, 'listening');
t.teardown(() => server.close());
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/userinfo`;

const fetchUserinfo: UserinfoLookup = async (_issuer, token, _values, signal) => {
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` }, signal });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return new Map(Object.entries((await response.json()) as object));
};

t.test('without the claim, userinfo is asked with the token as bearer token', async (t) => {
  const request = requestOf({ claims: { groups: 5 } });
  const settings = settingsOf({
    ...ON,
    'server.jwt_authentication.userinfo_group_key': 'resource.roles',
  });
  Object.assign(answers, {
    status: 200,
    body: JSON.stringify({ sub: 'alice', resource: { roles: 'Dev,ops' } }),
  });
  const { signal } = new AbortController();
  const identity = await authenticatorOf({ userinfo: fetchUserinfo }).authenticate(
    request,
    settings,
    signal,
  );
  t.strictSame(identity.groups, ['dev', 'ops']);
  t.equal(answers.authorization, `Bearer ${request.token}`);
});

t.test('unusable answers of userinfo', async (t) => {
  const failed = 'JWT authorization: userinfo lookup failed';
  const table: [string, number, object, RegExp][] = [
    ['an error', 500, {}, /status 500/],
    ['another subject', 200, { sub: 'bob', groups: ['dba'] }, /sub is not that of the token/],
    ['no subject', 200, { groups: ['dba'] }, /sub is not that of the token/],
    ['groups of another type', 200, { sub: 'alice', groups: { a: 1 } }, /no groups in groups of/],
    ['groups that are null', 200, { sub: 'alice', groups: null }, /no groups in groups of/],
  ];
  for (const [name, status, body, reason] of table) {
    Object.assign(answers, { status, body: JSON.stringify(body) });
    const error = await refusedGroups({}, fetchUserinfo);
    t.match(
      error,
      { sqlstate: '28000', message: failed, detail: undefined, reason, fault: 'identity provider' },
      name,
    );
    t.notMatch(error.reason, /eyJ/, `${name}: no token in the log`);
  }
  t.match(await refusedGroups({}), { message: failed, reason: /no way to ask/ });
  const none: UserinfoLookup = async () =>
    Promise.reject(new NoUserinfoEndpoint('the discovery document names none'));
  t.match(await refusedGroups({}, none), {
    message: 'JWT authorization: No userinfo endpoint',
    detail: undefined,
  });
});

t.test('an answer of userinfo without the key is an empty list', async (t) => {
  Object.assign(answers, { status: 200, body: JSON.stringify({ sub: 'alice', other: ['dba'] }) });
  t.strictSame(await groupsOf({}, 'groups', fetchUserinfo), []);
});

t.test('userinfo is found in a document without keys, unless its address is empty', async (t) => {
  const key = testKey('ES256', 'one');
  const issuer = await startIssuer([key]);
  const world = new KeyWorld(
    valuesFor(issuer.issuer, {
      'server.jwt_authentication.authorization.enabled': 'true',
      'server.jwt_authentication.jwks_auto_fetch.enabled': 'false',
      'server.jwt_authentication.jwks': keySetText(key),
    }),
  );
  t.teardown(async () => {
    await world.close();
    await issuer.close();
  });
  issuer.behaviour = (request, response, ordinary) => {
    if (request.url !== '/userinfo') ordinary();
    else
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ sub: 'alice', groups: ['dev'] }));
  };
  const endpoint = `${issuer.issuer}/userinfo`;
  for (const [document, outcome] of [
    [{ jwks_uri: undefined, userinfo_endpoint: '' }, 'no_userinfo_endpoint'],
    [{ jwks_uri: undefined }, 'no_userinfo_endpoint'],
    [{ jwks_uri: undefined, token_endpoint: '', userinfo_endpoint: endpoint }, 'alice'],
    [{ jwks_uri: '', userinfo_endpoint: endpoint }, 'alice'],
  ] as const) {
    issuer.document = document;
    world.discovery.forget(issuer.issuer);
    t.equal(await world.login(world.token(key)), outcome, JSON.stringify(document));
  }
});

t.test('a subject that is missing on both sides is not a match', async (t) => {
  const settings = { ...ON, 'server.jwt_authentication.claim': 'name' };
  const claims = { name: 'alice', sub: undefined };
  const userinfo: UserinfoLookup = async () => new Map([['groups', ['dba']]]);
  t.match(await refusalOf({ claims, settings, options: { userinfo } }), {
    code: 'userinfo_failed',
  });
});

t.test('an aborted login ends with the reason of its signal', async (t) => {
  const abort = new AbortController();
  const userinfo: UserinfoLookup = async () => {
    abort.abort(new Error('gone'));
    throw new Error('aborted');
  };
  const running = authenticatorOf({ userinfo }).authenticate(
    requestOf({}),
    settingsOf(ON),
    abort.signal,
  );
  await t.rejects(running, { message: 'gone' });
});

t.test('an empty list passes the checks, and a later rule refuses it', async (t) => {
  const identity = await login({ claims: { groups: [] }, settings: ON });
  t.match(emptyGroupsRefusal(identity, settingsOf(ON)), {
    sqlstate: '28000',
    message: 'JWT authorization: empty group list',
    reason: /authorization\.enabled/,
  });
  t.equal(emptyGroupsRefusal({ ...identity, groups: ['a'] }, settingsOf(ON)), undefined);
  t.equal(emptyGroupsRefusal({ ...identity, groups: undefined }, settingsOf(ON)), undefined);
});

t.test('the groups in a token of a real provider', async (t) => {
  const provider = await startProvider({
    audience: 'https://databases.test',
    clients: [
      { id: 'alice', claims: { groups: ['Dev'], realm_access: { roles: ['ops', 'dev'] } } },
    ],
  });
  t.teardown(() => provider.stop());
  const request = {
    token: await provider.token({ clientId: 'alice' }),
    user: 'alice',
    namesRole: false,
  };
  const settings = settingsOf({
    ...ON,
    'server.jwt_authentication.jwks': parseKeySet(provider.jwks),
    'server.jwt_authentication.issuers.configuration': {
      issuers: [provider.issuer],
      jwksUris: undefined,
    },
    'server.jwt_authentication.audience': ['https://databases.test'],
  });
  const { signal } = new AbortController();
  const real = authenticatorOf({ now: Date.now });
  t.strictSame((await real.authenticate(request, settings, signal)).groups, ['dev']);
  const nested = { ...settings, 'server.jwt_authentication.group_claim': 'realm_access.roles' };
  t.strictSame((await real.authenticate(request, nested, signal)).groups, ['ops', 'dev']);
});

t.test('groups stand for roles', async (t) => {
  const role = (name: string, isListed = false) => ({ name, isListed });
  const table: [string, string, readonly string[], object[]][] = [
    [
      'of their own name without a map',
      '',
      ['dev', 'pg_monitor'],
      [role('dev'), role('pg_monitor')],
    ],
    ['not if it is no SQL name', '', ['x'.repeat(64), 'ok'], [role('ok')]],
    ['by a literal in any case', 'DEV developers', ['dev', 'ops'], [role('developers', true)]],
    ['by an expression', '/^db-(.*)$ \\1', ['db-readers', 'mail'], [role('readers')]],
    [
      'by an expression with a fixed role',
      '/^domain\\x20admins$ pg_monitor',
      ['domain admins'],
      [role('pg_monitor', true)],
    ],
    [
      'a name that is put together is not listed',
      '/^(monitor)$ pg_\\1',
      ['monitor'],
      [role('pg_monitor')],
    ],
    [
      'all rules, distinct',
      'dev a\n/^d b\n# none\ndev A',
      ['dev'],
      [role('a', true), role('b', true)],
    ],
    ['folded', 'dev Developers', ['dev'], [role('developers', true)]],
    ['not if it comes out empty', '/^db-(.*)$ \\1', ['db-'], []],
  ];
  for (const [name, map, groups, expected] of table)
    t.strictSame(mapGroups(parseRoleRules(map), groups, 'iss', ['iss']), expected, name);
});

t.test('an issuer gets no role by the groups of another one', async (t) => {
  const map = 'corp dba corp-dba\npartner dba partner_dba\npartner /^p-(.*)$ \\1';
  const table: [string, string, string, readonly string[], readonly string[], string[]][] = [
    ['its own rule', map, 'corp', ['corp', 'partner'], ['dba'], ['corp-dba']],
    ['not that of the other', map, 'partner', ['corp', 'partner'], ['dba'], ['partner_dba']],
    ['no rule of its own', map, 'other', ['corp', 'other'], ['dba', 'p-x'], []],
    ['the only issuer, and none of the rules is its own', map, 'other', ['other'], ['dba'], []],
    ['the name of a role, and no rule', map, 'partner', ['corp', 'partner'], ['corp-dba'], []],
    ['an issuer is compared exactly', map, 'CORP', ['CORP', 'partner'], ['dba'], []],
    ['an issuer is no expression', '/^c dba x', 'corp', ['corp', 'partner'], ['dba'], []],
    ['an expression of its own', map, 'partner', ['corp', 'partner'], ['p-q'], ['q']],
    ['an expression of the other', map, 'corp', ['corp', 'partner'], ['p-q'], []],
    ['no map and several issuers', '', 'partner', ['corp', 'partner'], ['corp-dba'], []],
    ['no map and one issuer', '', 'corp', ['corp'], ['corp-dba'], ['corp-dba']],
    ['a map of comments', '# none', 'corp', ['corp', 'partner'], ['corp-dba'], []],
    ['a line of two columns', 'dba d', 'partner', ['corp', 'partner'], ['dba'], ['d']],
    ['lines of both forms', `${map}\ndba d`, 'corp', ['corp', 'x'], ['dba'], ['corp-dba', 'd']],
  ];
  for (const [name, text, issuer, issuers, groups, expected] of table) {
    const roles = mapGroups(parseRoleRules(text), groups, issuer, issuers);
    t.strictSame(
      roles.map((role) => role.name),
      expected,
      name,
    );
  }
});

t.test('a role map that does not parse names its line', async (t) => {
  const table: [string, RegExp][] = [
    ['dev', /unable to parse line 1: "dev"/],
    ['\nhttps://iss dev developers more', /unable to parse line 2/],
    ['https://iss /^a$ \\1', /saw \\1 substitution on line 1/],
    ['/^a$ \\1', /saw \\1 substitution on line 1/],
    ['/( x', /unable to parse line 1: .*missing/],
    ['/^([9-0]*)$ \\1', /invalid character class range/],
    [
      Array.from({ length: 201 }, (_, i) => `/g${i} r`).join('\n'),
      /line 201: there are more than 200 expressions/,
    ],
    [`/${'(a{1000})'.repeat(9)} r`, /unable to parse line 1/],
  ];
  for (const [map, message] of table) {
    t.throws(() => parseRoleRules(map), { sqlstate: '22023', message }, map.slice(0, 30));
  }
});

t.test('an issuer whose userinfo hangs leaves room for other logins (issue 16, 10)', async (t) => {
  const key = testKey('ES256', 'one');
  const [slow, good] = [await startIssuer([key]), await startIssuer([key])];
  const world = new KeyWorld(
    valuesFor(JSON.stringify([slow.issuer, good.issuer]), {
      'server.jwt_authentication.authorization.enabled': 'true',
    }),
  );
  t.teardown(async () => {
    await world.close();
    await slow.close();
    await good.close();
  });
  const answer = JSON.stringify({ sub: 'alice', groups: ['dev'] });
  let isHanging = true;
  for (const issuer of [slow, good]) {
    issuer.document = { userinfo_endpoint: `${issuer.issuer}/userinfo` };
    issuer.behaviour = (request, response, ordinary) => {
      if (request.url !== '/userinfo') ordinary();
      else if (issuer === good || !isHanging)
        response.writeHead(200, { 'content-type': 'application/json' }).end(answer);
    };
  }
  const abort = new AbortController();
  setMaxListeners(0, abort.signal);
  const stuck = Array.from({ length: 200 }, () =>
    world.login(world.token(key), 'alice', abort.signal).catch(() => 'gone'),
  );
  await slow.asked('/userinfo', 125);
  const error = await world.refusal(world.token(key));
  t.match(error, {
    code: 'userinfo_failed',
    fault: 'identity provider',
    reason: /too many logins wait: at most 125 of one issuer, 250 in all/,
  });
  t.equal(slow.count('/userinfo'), 125);
  t.equal(await world.login(world.token(key, { iss: good.issuer })), 'alice');
  abort.abort(new Error('gone'));
  const outcomes = await Promise.all(stuck);
  t.equal(outcomes.filter((outcome) => outcome === 'gone').length, 125);
  isHanging = false;
  t.equal(await world.login(world.token(key)), 'alice', 'there is room again');
});

t.test('a list of more elements than there may be groups is not read', async (t) => {
  const many = Array.from({ length: 1100 }, (_, index) => (index < 1000 ? 'dev' : ''));
  t.strictSame(await groupsOf({ groups: many }), ['dev'], 'equal ones and empty ones do not count');
  const userinfo: UserinfoLookup = async () =>
    new Map<string, unknown>([
      ['sub', 'alice'],
      ['groups', ','.repeat(1_000_000)],
    ]);
  t.match(await refusedGroups({}, userinfo), {
    code: 'empty_group_list',
    reason: /more than 10000 elements/,
  });
  const long = Array.from({ length: 260 }, (_, index) => `${index}`.padStart(1000, '0'));
  const wordy: UserinfoLookup = async () =>
    new Map<string, unknown>([
      ['sub', 'alice'],
      ['groups', long],
    ]);
  t.match(await refusedGroups({}, wordy), { reason: /more than 256000 characters of groups/ });
});
