import t from 'tap';
import { type BackendUrl, formatHost } from '../../src/backend/url.ts';
import { parseBackendUrl } from '../../src/backend/url-parser.ts';
import { PgError } from '../../src/lib/errors.ts';

const parse = (text: string): BackendUrl => parseBackendUrl(text, 'flag');

function refusal(text: string, source: 'flag' | 'environment' = 'flag'): string {
  try {
    parseBackendUrl(text, source);
  } catch (error) {
    if (error instanceof PgError && error.sqlstate === '22023') return error.message;
    throw error;
  }
  return '';
}

const summary = ({ hosts }: BackendUrl): string[] =>
  hosts.map((host) => `${formatHost(host)} ${host.sslMode}`);

t.test('hosts and their sslmode', (t) => {
  const cases: [string, string[]][] = [
    ['postgres://db.example.com', ['db.example.com:5432 verify-full']],
    ['postgresql://db.example.com:6000/app', ['db.example.com:6000 verify-full']],
    ['postgres://10.0.0.7', ['10.0.0.7:5432 verify-full']],
    ['postgres://localhost:5433/', ['localhost:5433 prefer']],
    ['postgres://127.0.0.2', ['127.0.0.2:5432 prefer']],
    ['postgres://[::1]:26257', ['[::1]:26257 prefer']],
    ['postgres://[2001:db8::1]', ['[2001:db8::1]:5432 verify-full']],
    ['postgres://localhost?sslrootcert=/ca.pem', ['localhost:5432 verify-full']],
    ['postgres:///?host=/run/postgresql&port=5433', ['/run/postgresql/.s.PGSQL.5433 disable']],
    ['postgres://%2Frun%2Fpostgresql/app', ['/run/postgresql/.s.PGSQL.5432 disable']],
    [
      'postgres:///?host=/run/postgresql&sslmode=verify-full',
      ['/run/postgresql/.s.PGSQL.5432 disable'],
    ],
    [
      'postgres://a.example:1,localhost,[::1]:3',
      ['a.example:1 verify-full', 'localhost:5432 prefer', '[::1]:3 prefer'],
    ],
    ['postgres:///?host=a,b&port=1,2', ['a:1 verify-full', 'b:2 verify-full']],
    ['postgres://a,b?port=7', ['a:7 verify-full', 'b:7 verify-full']],
    ['postgres://db?sslmode=disable', ['db:5432 disable']],
    ['postgres://db?sslmode=require', ['db:5432 require']],
    ['postgres://db?sslmode=require&sslrootcert=/ca.pem', ['db:5432 verify-ca']],
    ['postgres://db?sslmode=verify-ca&sslrootcert=/ca.pem', ['db:5432 verify-ca']],
    ['postgres://db?sslrootcert=system', ['db:5432 verify-full']],
  ];
  for (const [text, hosts] of cases) t.same(summary(parse(text)), hosts, text);
  t.end();
});

t.test('the other parameters and their defaults', (t) => {
  t.match(parse('postgres:///app?host=/tmp'), {
    database: 'app',
    rootCertificate: undefined,
    sslNegotiation: 'postgres',
    requireAuth: new Set(['scram-sha-256']),
    connectTimeout: 10_000,
    password: undefined,
    targetSessionAttrs: 'any',
    loadBalanceHosts: 'disable',
    credentials: {
      method: undefined,
      passwordFile: undefined,
      clientCertificate: undefined,
      issueCaKey: undefined,
    },
  });
  t.match(
    parse(
      'postgres://a,b?target_session_attrs=prefer-standby&load_balance_hosts=random' +
        '&backend_auth=cert&sslcert=c&sslkey=k',
    ),
    {
      targetSessionAttrs: 'prefer-standby',
      loadBalanceHosts: 'random',
      credentials: { method: 'cert', clientCertificate: 'c', clientKey: 'k' },
    },
  );
  t.match(parse('postgres://a?passfile=p&issue_ca_cert=c&issue_ca_key=k').credentials, {
    passwordFile: 'p',
    issueCaCertificate: 'c',
    issueCaKey: 'k',
  });
  const given =
    'postgres://db/?dbname=a%20b&sslrootcert=%2Fca.pem&sslnegotiation=direct' +
    '&require_auth=md5,scram-sha-256,password&connect_timeout=0';
  t.match(parse(given), {
    database: 'a b',
    rootCertificate: '/ca.pem',
    sslNegotiation: 'direct',
    requireAuth: new Set(['md5', 'scram-sha-256', 'password']),
    connectTimeout: 0,
  });
  t.equal(parse('postgres://db?sslrootcert=system').rootCertificate, undefined);
  t.end();
});

t.test('an error names what is wrong', (t) => {
  const cases: [string, RegExp][] = [
    ['http://db', /postgres:\/\/host:port/],
    ['postgres:///app', /no host is named/],
    ['postgres://a,,b', /empty host/],
    ['postgres://a?host=b', /host is given twice/],
    ['postgres://a:1?port=2', /port is given twice/],
    ['postgres://a/x?dbname=y', /database is given twice/],
    ['postgres:///?host=a,b&port=1,2,3', /3 ports are given for 2 hosts/],
    ['postgres://a:0', /port "0"/],
    ['postgres://a:65536', /port "65536"/],
    ['postgres://a:x', /port "x"/],
    ['postgres://::1', /IPv6 address/],
    ['postgres://[db]', /IPv6 address/],
    ['postgres://a%20b', /"a b" is not a host name/],
    ['postgres://a%zz', /hexadecimal/],
    ['postgres://a/%00', /NUL/],
    [
      'postgres://a?sslmode=allow',
      /sslmode "allow" is not one of disable, prefer, require, verify-ca, verify-full/,
    ],
    ['postgres://a?sslmode=verify-ca', /needs sslrootcert=FILE/],
    [
      'postgres://a?sslmode=verify-ca&sslrootcert=system',
      /sslrootcert=system needs sslmode=verify-full/,
    ],
    [
      'postgres://a?sslmode=prefer&sslrootcert=/ca.pem',
      /sslrootcert has no effect with sslmode=prefer/,
    ],
    ['postgres://localhost?sslnegotiation=direct', /sslnegotiation=direct needs/],
    ['postgres://a?sslcrl=/c.pem', /parameter "sslcrl" is not known; there are host, port/],
    ['postgres://a?sslcert=/c.pem', /sslcert and sslkey are given together/],
    ['postgres://a?sslkey=/c.pem', /sslcert and sslkey are given together/],
    [
      'postgres://a?target_session_attrs=master',
      /target_session_attrs "master" is not one of any, read-write/,
    ],
    [
      'postgres://a?load_balance_hosts=yes',
      /load_balance_hosts "yes" is not one of disable, random/,
    ],
    [
      'postgres://a?backend_auth=magic',
      /backend_auth "magic" is not one of trust, password, cert, issue-cert/,
    ],
    ['postgres://a?sslmode', /sslmode is not of the form sslmode=value/],
    ['postgres://a?dbname=x=y', /%3D/],
    ['postgres://a?sslmode=require&sslmode=disable', /sslmode is given twice/],
    ['postgres://a?require_auth=', /require_auth "" is not one of/],
    [
      'postgres://a?require_auth=gss',
      /require_auth "gss" is not one of scram-sha-256, md5, password/,
    ],
    ['postgres://a?require_auth=none', /--backend-auth trust/],
    ['postgres://a?require_auth=!md5', /lists what is allowed/],
    ['postgres://a?require_auth=password&sslmode=require', /goes over in clear/],
    ['postgres://a?connect_timeout=-1', /connect_timeout "-1"/],
    ['postgres://alice@a', /a user makes no sense here/],
    ['postgres://a?user=alice', /a user makes no sense here/],
  ];
  for (const [text, message] of cases) t.match(refusal(text), message, text);
  t.end();
});

t.test('a password is taken from the environment only, and never repeated in an error', (t) => {
  t.equal(parseBackendUrl('postgres://:s%40crt@db', 'environment').password, 's@crt');
  t.equal(parseBackendUrl('postgres://db?password=s%3Dcrt', 'environment').password, 's=crt');
  t.match(refusal('postgres://:secret@db'), /password in a flag/);
  t.match(refusal('postgres://db?password=secret'), /password in a flag/);
  const slips = [
    'postgres://:secret/x@db',
    'postgres://:secret?x@db',
    'postgres://:secret@x@db:y',
    'postgres://u:secret@db',
    'postgres://:secret@db?x=y',
    'postgres://:%zzsecret@db',
    'postgres://db?password=secret=x',
  ];
  for (const text of slips) {
    const message = refusal(text, 'environment');
    t.ok(message, text);
    t.notMatch(message, /secret/, text);
  }
  t.end();
});
