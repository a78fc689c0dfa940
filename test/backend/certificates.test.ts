/**
 * Logins with certificates at each supported version of PostgreSQL, with the lines of pg_hba.conf
 * and pg_ident.conf from the documentation.
 */

import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { admitsWithoutCredential, Backend } from '../../src/backend/backend.ts';
import { CertificateIssuer } from '../../src/backend/certificates.ts';
import type { CredentialOptions } from '../../src/backend/open-credentials.ts';
import { parseBackendUrl } from '../../src/backend/url-parser.ts';
import { type Authority, type Certificate, makeAuthority } from '../support/certificates.ts';
import { type Postgres, startPostgres } from '../support/postgres.ts';
import type { PostgresVersion } from '../support/postgres-install.ts';

const signal = new AbortController().signal;
const versions: readonly PostgresVersion[] = [15, 16, 17, 18];
const day = 86_400_000;

/** Signs the certificates of servers. */
const serverAuthority = makeAuthority('pgsso test server authority');
const serverCertificate = serverAuthority.issue({ cn: 'db', san: ['127.0.0.1'], usage: 'server' });
/** Signs the certificates of clients. */
const clientAuthority = makeAuthority('pgsso test client authority');

const roles = [
  'CREATE ROLE app_users',
  'CREATE ROLE alice LOGIN',
  'CREATE ROLE bob LOGIN',
  'CREATE ROLE "j\u00fcrgen" LOGIN',
  'CREATE ROLE outsider LOGIN',
  'GRANT app_users TO alice, bob, "j\u00fcrgen"',
];

/** The lines of docs/backend-auth.md. */
const rules: Readonly<
  Record<string, (version: PostgresVersion) => { hba: string[]; ident?: string[] }>
> = {
  cert: (version) =>
    version === 15
      ? { hba: ['hostssl all +app_users 127.0.0.1/32 trust clientcert=verify-ca'] }
      : {
          hba: ['hostssl all +app_users 127.0.0.1/32 cert map=pgsso'],
          ident: ['pgsso front +app_users'],
        },
  'issue-cert': () => ({ hba: ['hostssl all +app_users 127.0.0.1/32 cert'] }),
};

interface Notice {
  readonly level: string;
  readonly text: string;
}

interface Scene {
  readonly postgres: Postgres;
  /** Writes a file for this scene, the key 0600; its path. */
  file(name: string, text: string): string;
  open(
    parameters: string,
    options?: Partial<CredentialOptions>,
  ): Promise<{ backend: Backend; notices: Notice[] }>;
}

/** One server of each version. Every test gives it other rules. */
const servers = new Map<PostgresVersion, Promise<Postgres>>();

function serverOf(version: PostgresVersion): Promise<Postgres> {
  const known = servers.get(version);
  if (known !== undefined) return known;
  const ssl = { ...serverCertificate, ca: clientAuthority.cert };
  const started = startPostgres({ version, ssl, hba: [], initSql: roles });
  servers.set(version, started);
  t.teardown(async () => (await started).close());
  return started;
}

async function startScene(
  t: Test,
  version: PostgresVersion,
  hba: string[],
  ident?: string[],
): Promise<Scene> {
  const postgres = await serverOf(version);
  writeFileSync(join(postgres.dataDir, 'root.crt'), clientAuthority.cert);
  await postgres.reload({ hba, ident });
  const directory = t.testdir({ 'server-ca.pem': serverAuthority.cert });
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  return {
    postgres,
    file,
    async open(parameters, options = {}) {
      const notices: Notice[] = [];
      const root = `sslrootcert=${directory}/server-ca.pem`;
      const url = `postgres://127.0.0.1:${postgres.port}?${root}${parameters}`;
      const backend = await Backend.open(
        parseBackendUrl(url, 'flag'),
        { backendAuth: 'password', backendAhead: 0, ...options },
        (level, text) => notices.push({ level, text }),
      );
      t.teardown(() => backend.close());
      return { backend, notices };
    },
  };
}

/** The parameters of a URL for a client certificate. */
function certificateParameters(scene: Scene, { cert, key }: Certificate, name = 'front'): string {
  const files = [scene.file(`${name}.crt`, cert), scene.file(`${name}.key`, key)];
  return `&backend_auth=cert&sslcert=${files[0]}&sslkey=${files[1]}`;
}

function authorityOptions(scene: Scene, authority: Authority): Partial<CredentialOptions> {
  return {
    backendAuth: 'issue-cert',
    issueCaCert: scene.file('issue-ca.crt', authority.cert),
    issueCaKey: scene.file('issue-ca.key', authority.key),
  };
}

/** Logs in and leaves. Returns the user of the session. */
async function logIn(
  backend: Backend,
  user: string,
  database = 'postgres',
): Promise<string | undefined> {
  const parameters = [
    { name: 'user', value: Buffer.from(user) },
    { name: 'database', value: Buffer.from(database) },
  ];
  const session = await backend.logIn(parameters, signal);
  session.channel.destroy();
  return session.reported.get('session_authorization');
}

/** Whether alice is let in without a certificate. */
async function openToAll({ target }: Backend): Promise<boolean[]> {
  const parameters = [
    { name: 'user', value: Buffer.from('alice') },
    { name: 'database', value: Buffer.from('postgres') },
  ];
  return Promise.all(
    target.url.hosts.map((host) => admitsWithoutCredential(target, host, parameters, signal)),
  );
}

const ours = {
  sqlstate: '28000',
  message: /^the backend did not admit .* through this front-end$/,
  fault: 'us',
};

for (const version of versions) {
  t.test(
    `PostgreSQL ${version}: one certificate logs in the members of app_users and nobody else`,
    async (t) => {
      const { hba, ident } = rules['cert']?.(version) ?? { hba: [] };
      const scene = await startScene(t, version, hba, ident);
      const front = clientAuthority.issue({ cn: 'front', usage: 'client' });
      const { backend, notices } = await scene.open(certificateParameters(scene, front));
      for (const user of ['alice', 'bob', 'j\u00fcrgen']) t.equal(await logIn(backend, user), user);
      await t.rejects(logIn(backend, 'outsider'), ours);
      await t.rejects(logIn(backend, 'postgres'), ours, 'a superuser');
      t.same(notices, []);
      t.same(await openToAll(backend), [false], 'without the certificate');

      const now = Date.now();
      const refused: [string, Certificate][] = [
        ['of another authority', makeAuthority('somebody').issue({ cn: 'front', usage: 'client' })],
        [
          'expired',
          clientAuthority.issue({ cn: 'front', usage: 'client', notAfter: new Date(now - day) }),
        ],
        [
          'not valid yet',
          clientAuthority.issue({ cn: 'front', usage: 'client', notBefore: new Date(now + day) }),
        ],
        ['for servers', clientAuthority.issue({ cn: 'front', usage: 'server' })],
        ['of another name', clientAuthority.issue({ cn: 'alice', usage: 'client' })],
      ];
      for (const [name, certificate] of refused) {
        // 15 does not check the name, so the authority must have no other purpose.
        if (version === 15 && name === 'of another name') continue;
        const { backend } = await scene.open(certificateParameters(scene, certificate, 'refused'));
        await t.rejects(logIn(backend, 'alice'), ours, name);
      }
    },
  );

  t.test(`PostgreSQL ${version}: a certificate is issued for each user`, async (t) => {
    const { hba } = rules['issue-cert']?.(version) ?? { hba: [] };
    const scene = await startScene(t, version, hba);
    const { backend, notices } = await scene.open('', authorityOptions(scene, clientAuthority));
    for (const user of ['alice', 'bob', 'j\u00fcrgen', 'alice'])
      t.equal(await logIn(backend, user), user);
    await t.rejects(logIn(backend, 'outsider'), ours);
    await t.rejects(logIn(backend, 'postgres'), ours, 'a superuser');
    t.same(notices, []);
    t.same(await openToAll(backend), [false], 'without the certificate');
    const { backend: foreign } = await scene.open(
      '',
      authorityOptions(scene, makeAuthority('somebody')),
    );
    await t.rejects(logIn(foreign, 'alice'), {
      ...ours,
      reason: /does not accept the certificate: unknown ca/,
    });
  });
}

t.test('a map to all users lets in superusers on 16 and later, and nobody on 15', async (t) => {
  for (const [version, admitted] of [
    [15, false],
    [16, true],
    [18, true],
  ] as const) {
    const scene = await startScene(
      t,
      version,
      ['hostssl all all 127.0.0.1/32 cert map=pgsso'],
      ['pgsso front all'],
    );
    const front = clientAuthority.issue({ cn: 'front', usage: 'client' });
    const { backend } = await scene.open(certificateParameters(scene, front));
    if (admitted) t.equal(await logIn(backend, 'postgres'), 'postgres', `${version}`);
    else await t.rejects(logIn(backend, 'alice'), ours, `${version}`);
  }
});

t.test('a backend that asks for no certificate is reported once, at the first login', async (t) => {
  const scene = await startScene(t, 18, ['hostssl all all 127.0.0.1/32 trust']);
  const front = certificateParameters(
    scene,
    clientAuthority.issue({ cn: 'front', usage: 'client' }),
  );
  const cases: [string, string, Partial<CredentialOptions>?][] = [
    ['cert', front],
    ['issue-cert', '', authorityOptions(scene, clientAuthority)],
  ];
  for (const [method, parameters, options] of cases) {
    const { backend, notices } = await scene.open(parameters, options);
    await logIn(backend, 'alice');
    while (notices.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await logIn(backend, 'bob');
    t.match(
      notices,
      [
        {
          level: 'alarm',
          text: /without a certificate.*whoever else is there can log in as anybody/,
        },
      ],
      method,
    );
    t.equal(notices.length, 1, method);
  }
});

t.test(
  'no certificate without TLS or in native logins, and no answer to a further request',
  async (t) => {
    const scene = await startScene(t, 18, ['hostssl all all 127.0.0.1/32 scram-sha-256']);
    const { backend } = await scene.open(
      certificateParameters(scene, clientAuthority.issue({ cn: 'front', usage: 'client' })),
    );
    await t.rejects(logIn(backend, 'alice'), {
      ...ours,
      reason: /asks for a credential \(sasl\), and --backend-auth is cert/,
    });
    for (const mode of ['disable', 'prefer']) {
      const url = parseBackendUrl(
        `postgres://127.0.0.1:${scene.postgres.port}?sslmode=${mode}`,
        'flag',
      );
      const options = {
        ...authorityOptions(scene, clientAuthority),
        backendAhead: 0,
        backendAuth: 'issue-cert',
      } as const;
      await t.rejects(
        Backend.open(url, options, () => undefined),
        { message: /needs TLS: sslmode=require, verify-ca or verify-full/ },
      );
    }
  },
);

t.test('certificates and authorities can be replaced while running', async (t) => {
  const { hba } = rules['issue-cert']?.(18) ?? { hba: [] };
  const scene = await startScene(t, 18, hba);
  const next = makeAuthority('the next client authority');
  const { backend } = await scene.open('', authorityOptions(scene, clientAuthority));
  t.equal(await logIn(backend, 'alice'), 'alice');

  // The backend trusts both, then the front-end changes, then the backend drops the old one.
  const trusted = join(scene.postgres.dataDir, 'root.crt');
  writeFileSync(trusted, clientAuthority.cert + next.cert);
  await scene.postgres.reload({});
  t.equal(await logIn(backend, 'alice'), 'alice', 'before the change');
  authorityOptions(scene, next);
  await backend.reload();
  t.equal(await logIn(backend, 'alice'), 'alice', 'after the change');
  writeFileSync(trusted, next.cert);
  await scene.postgres.reload({});
  t.equal(await logIn(backend, 'alice'), 'alice', 'with the old authority gone');
  authorityOptions(scene, clientAuthority);
  await backend.reload();
  await t.rejects(logIn(backend, 'alice'), ours, 'the old authority again');

  scene.file('issue-ca.key', 'no key');
  await t.rejects(backend.reload(), { message: /--issue-ca-key .*issue-ca\.key/ });
  authorityOptions(scene, next);
  await backend.reload();

  const other = makeAuthority('the next server authority');
  scene.file('server-ca.pem', other.cert);
  await backend.reload();
  await t.rejects(
    logIn(backend, 'alice'),
    { sqlstate: '08001', message: /could not connect/ },
    'the server is not trusted any more',
  );
  scene.file('server-ca.pem', other.cert + serverAuthority.cert);
  await backend.reload();
  t.equal(await logIn(backend, 'alice'), 'alice');
});

t.test(
  'a certificate is read again, and one without its key leaves the old one in use',
  async (t) => {
    const { hba, ident } = rules['cert']?.(18) ?? { hba: [] };
    const scene = await startScene(t, 18, hba, ident);
    const issue = (notAfter?: Date) =>
      clientAuthority.issue({ cn: 'front', usage: 'client', ...(notAfter && { notAfter }) });
    const { backend } = await scene.open(
      certificateParameters(scene, issue(new Date(Date.now() - day))),
    );
    await t.rejects(logIn(backend, 'alice'), {
      ...ours,
      reason: /does not accept the certificate: certificate expired/,
    });
    certificateParameters(scene, issue());
    await backend.reload();
    t.equal(await logIn(backend, 'alice'), 'alice');
    scene.file('front.key', issue().key);
    await t.rejects(backend.reload(), { message: /sslkey .*front\.key/ });
    t.equal(await logIn(backend, 'alice'), 'alice');
  },
);

t.test(
  'an issued certificate is for one user, for clients and for minutes, and is used again',
  async (t) => {
    const directory = t.testdir();
    const write = (name: string, text: string, mode = 0o600): string => {
      writeFileSync(join(directory, name), text, { mode });
      return join(directory, name);
    };
    const files = {
      certificate: write('ca.crt', clientAuthority.cert),
      key: write('ca.key', clientAuthority.key),
      certificateName: '--issue-ca-cert',
      keyName: '--issue-ca-key',
    };
    let now = Date.parse('2026-11-23T12:00:00Z');
    const issuer = await CertificateIssuer.open(files, ['keeper'], () => now);
    const certificate = new X509Certificate(issuer.issue('alice').cert);
    t.match(certificate, {
      subject: 'CN=alice',
      issuer: 'CN=pgsso test client authority',
      ca: false,
    });
    t.same(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2'], 'client authentication only');
    t.ok(certificate.verify(new X509Certificate(clientAuthority.cert).publicKey));
    t.equal(Date.parse(certificate.validFrom), now - 120_000);
    t.equal(Date.parse(certificate.validTo), now + 300_000);
    t.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');

    t.throws(() => issuer.issue('keeper'), {
      code: 'backend_did_not_admit',
      message: 'the backend did not admit keeper through this front-end',
      reason: /user of --directory/,
    });

    let made = 0;
    const serials = new Set<string>();
    const create = ({ cert }: { cert: string }): never => {
      serials.add(new X509Certificate(cert).serialNumber);
      return { made: ++made } as never;
    };
    const context = (user: string): unknown => issuer.contextFor(user, create);
    const first = context('alice');
    t.equal(context('alice'), first);
    t.not(context('bob'), first);
    now += 119_999;
    t.equal(context('alice'), first);
    now += 1;
    t.not(context('alice'), first, 'after two minutes');
    for (let i = 0; i < 1000; i++) context(`user${i}`);
    const before = made;
    context('user0');
    t.equal(made, before, 'remembered');
    context('user999');
    context('user999');
    t.equal(made, before + 2, 'with 1000 certificates in use, a further one is used once');
    now += 120_000;
    t.not(context('alice'), context('user999'));
    t.equal(made, before + 4, 'a remembered user gets a new one after two minutes, too');
    await issuer.reload();
    t.equal(context('user999'), context('user999'), 'a reload makes room');
    t.equal(context('__proto__'), context('__proto__'), 'whatever the name');
    t.equal(serials.size, made, 'each has its own serial number');

    const wrong: [string, Partial<typeof files>, RegExp][] = [
      [
        'a key of another',
        { key: write('other.key', makeAuthority().key) },
        /--issue-ca-key .*not that of the certificate/,
      ],
      [
        'a certificate of no authority',
        authorityFiles(write, clientAuthority.issue({ cn: 'x' })),
        /not one of an authority/,
      ],
      [
        'a key that others may read',
        { key: write('open.key', clientAuthority.key, 0o644) },
        /0600 or stricter/,
      ],
      [
        'no certificate',
        { certificate: write('none.crt', 'hello') },
        /--issue-ca-cert .*no certificate in PEM form/,
      ],
      ['no file', { key: join(directory, 'nowhere') }, /ENOENT/],
    ];
    for (const [name, change, message] of wrong) {
      await t.rejects(
        CertificateIssuer.open({ ...files, ...change }),
        { sqlstate: 'F0000', message },
        name,
      );
    }
  },
);

function authorityFiles(
  write: (name: string, text: string) => string,
  { cert, key }: Certificate,
): { certificate: string; key: string } {
  return { certificate: write('leaf.crt', cert), key: write('leaf.key', key) };
}
