/**
 * Rules in the form of PostgreSQL's pg_hba.conf (manual, 20.1): how a client may log in, by who it
 * is, where it comes from and what it asks for. One rule a line; the first that matches counts.
 *
 *     # TYPE   DATABASE  USER      ADDRESS      METHOD  [OPTION=VALUE …]
 *     hostssl  sales     bi,etl    10.0.0.0/8   jwt     jwt_audiences="sales,reports"
 *     host     all       postgres  all          reject
 *     host     all       all       all          native
 *
 * The text is parsed and compiled when it is set. A login only matches.
 */
import { networkInterfaces } from 'node:os';
import { errorText } from '../lib/errors.ts';
import {
  type Address,
  isInNetworks,
  type Network,
  parseAddress,
  parseNetworks,
} from '../lib/network.ts';
import { foldName } from '../lib/text.ts';
import { noPolicy, parsePolicy, type TokenPolicy } from './auth-rule-options.ts';
import { type Field, type FieldToken, invalidLine, splitLines } from './auth-rule-syntax.ts';
import { PatternCompiler, suggestRange } from './pattern.ts';
import { quote } from './values.ts';

const TYPES = ['host', 'hostssl', 'hostnossl'] as const;
type RuleType = (typeof TYPES)[number];

/** How a client that a rule matches may log in. */
const METHODS = ['native', 'jwt', 'oauth', 'device', 'reject'] as const;
export type RuleMethod = (typeof METHODS)[number];

/** Whether a line of this method takes tokens alone, and so may have options about them. */
export function takesTokens(method: RuleMethod): boolean {
  return method !== 'native' && method !== 'reject';
}

/** What is known of a client when a rule is looked for. */
export interface RuleQuery {
  readonly address: string | undefined;
  readonly tls: boolean;
  /** As it was sent. Undefined or empty: the name of the user. */
  readonly database: string | undefined;
  /** As it was sent. Undefined or empty: only `all` matches. */
  readonly user: string | undefined;
  /** Whether the client asks for replication. */
  readonly replication: boolean;
}

/** One line. */
export interface AuthRule {
  /** From 1. */
  readonly line: number;
  readonly type: RuleType;
  readonly method: RuleMethod;
  /** What the line takes of tokens. */
  readonly policy: TokenPolicy;
  /** As it was written, for the log. */
  readonly written: string;
  /** The fields in a canonical form, by which lines are compared. */
  readonly databases: string;
  readonly users: string;
  readonly address: string;
  matches(candidate: Candidate): boolean;
}

/** A query, and what each line compares of it, worked out once. */
interface Candidate {
  readonly query: RuleQuery;
  readonly address: Address | undefined;
  readonly user: Spellings;
  readonly database: Spellings;
}

/** The ways to write a name: see {@link spellingsOf}. */
interface Spellings {
  readonly exact: readonly string[];
  /** Those, and their folded forms. */
  readonly folded: readonly string[];
}

/** The rules in their order. */
export interface AuthRules {
  readonly rules: readonly AuthRule[];
  /** The first rule that matches. Undefined if none does. */
  find(query: RuleQuery): AuthRule | undefined;
}

/** More than an operator writes by hand. */
const RULE_LIMIT = 1000;

/**
 * Databases, users and values of options, of all lines together. A login compares each of them:
 * 10,000 take a quarter of a millisecond.
 */
const NAME_LIMIT = 10_000;

/** Instructions of all expressions together: 20 ns each, for four spellings of 63 bytes. */
const INSTRUCTION_LIMIT = 20_000;

/** NAMEDATALEN − 1. PostgreSQL cuts a longer name: it is another spelling of a short one. */
const NAME_BYTES = 63;

/** The longest spelling that is compared as it was sent. No database has a longer name. */
const SPELLING_LIMIT = 256;

/** How long the addresses of this host are remembered, in ms. */
const OWN_ADDRESSES_MS = 5000;

/** What the empty setting means. */
export const DEFAULT_RULE: AuthRule = Object.freeze({
  line: 1,
  type: 'host',
  method: 'native',
  policy: noPolicy,
  written: 'host all all all native',
  databases: 'all',
  users: 'all',
  address: 'all',
  matches: () => true,
});

/**
 * Parses the rules. A text without a rule is one rule, `host all all all native`.
 *
 * @throws PgError 22023 that names the line
 */
export function parseAuthRules(text: string): AuthRules {
  const budget: Budget = {
    names: NAME_LIMIT,
    patterns: new PatternCompiler({ patterns: NAME_LIMIT, instructions: INSTRUCTION_LIMIT }),
  };
  const lines = splitLines(text);
  const [excess] = lines.slice(RULE_LIMIT);
  if (excess) throw invalidLine(excess.line, `there are more than ${RULE_LIMIT} rules`);
  const rules = lines.map(({ line, fields, written }) =>
    Object.freeze(parseRule(line, fields, written, budget)),
  );
  checkFolding(rules);
  return Object.freeze({
    rules: Object.freeze(rules.length === 0 ? [DEFAULT_RULE] : rules),
    find(query: RuleQuery) {
      if (rules.length === 0) return DEFAULT_RULE;
      const candidate = candidateOf(query);
      return rules.find((rule) => rule.matches(candidate));
    },
  });
}

function candidateOf(query: RuleQuery): Candidate {
  return {
    query,
    address: parseAddress(query.address ?? ''),
    user: spellingsOf(query.user),
    database: spellingsOf(query.database || query.user),
  };
}

/** What the rest of the rules may still have. */
interface Budget {
  names: number;
  readonly patterns: PatternCompiler;
}

function parseRule(
  line: number,
  fields: readonly Field[],
  written: string,
  budget: Budget,
): AuthRule {
  const [typeField, databaseField, userField, addressField, ...rest] = fields;
  const type = readType(line, typeField);
  if (!databaseField || !userField || !addressField || rest.length === 0) {
    throw invalidLine(line, 'a rule is TYPE DATABASE USER ADDRESS METHOD [OPTION=VALUE …]');
  }
  const { network, others } = readAddress(line, addressField, rest);
  const [methodField, ...optionFields] = others;
  const method = readMethod(line, methodField);
  if (!takesTokens(method) && optionFields.length > 0) {
    throw invalidLine(line, `options are for lines of tokens, and the method is ${method}`);
  }
  const policy = takesTokens(method) ? parsePolicy(line, optionFields) : noPolicy;
  budget.names -= databaseField.length + userField.length + namesIn(policy);
  if (budget.names < 0) {
    throw invalidLine(line, `the lines up to here have more than ${NAME_LIMIT} names`);
  }
  const isDatabase = databaseMatcher(line, databaseField, budget);
  const isUser = userMatcher(line, userField, budget);
  return {
    line,
    type,
    method,
    policy,
    written,
    databases: canonical(databaseField),
    users: canonical(userField),
    address: network.name,
    matches: ({ query, address, user, database }) =>
      (type === 'host' || (type === 'hostssl') === query.tls) &&
      isUser(policy.folds ? user.folded : user.exact) &&
      isDatabase(query, policy.folds ? database.folded : database.exact) &&
      network.matches(address),
  };
}

/** How many values the options of a line list. */
function namesIn({ issuers, audiences, scope, claims, groups }: TokenPolicy): number {
  const lists = [issuers ?? [], audiences ?? [], scope, groups];
  return lists.reduce((sum, list) => sum + list.length, claims.size);
}

function readType(line: number, field: Field | undefined): RuleType {
  const word = keyword(field);
  const type = TYPES.find((known) => known === word);
  if (type !== undefined) return type;
  const shown = quote(field?.[0]?.text ?? '');
  if (word === 'local') {
    throw invalidLine(line, 'local lines have no meaning here: clients come by TCP');
  }
  throw invalidLine(line, `the type ${shown} is not one of ${TYPES.join(', ')}`);
}

/** PostgreSQL's methods that ask for the database's own credential. */
const DATABASE_METHODS: ReadonlySet<string> = new Set(
  'scram-sha-256 md5 password gss sspi ldap radius pam bsd cert cert-password'.split(' '),
);

function readMethod(line: number, field: Field | undefined): RuleMethod {
  const word = keyword(field);
  const method = METHODS.find((known) => known === word);
  if (method !== undefined) return method;
  const shown = quote(field?.[0]?.text ?? '');
  throw invalidLine(
    line,
    `the method ${shown} is not one of ${METHODS.join(', ')}`,
    word !== undefined && DATABASE_METHODS.has(word)
      ? 'native leaves the login to the database, whose own pg_hba.conf says how it asks.'
      : undefined,
  );
}

/** The only token of a field, if it is not quoted. */
function keyword(field: Field | undefined): string | undefined {
  const [token, ...more] = field ?? [];
  return token && more.length === 0 && !token.isQuoted ? token.text : undefined;
}

/** Which addresses a line is for. */
interface AddressMatcher {
  readonly name: string;
  matches(address: Address | undefined): boolean;
}

/** An address takes one field, or two with its mask. */
function readAddress(
  line: number,
  field: Field,
  rest: readonly Field[],
): { network: AddressMatcher; others: readonly Field[] } {
  const text = field[0]?.text ?? '';
  if (field.length > 1) throw invalidLine(line, 'a line has one address');
  if (keyword(field) === 'all') {
    return { network: { name: 'all', matches: () => true }, others: rest };
  }
  if (keyword(field) === 'samehost') {
    return { network: { name: 'samehost', matches: isOwnAddress }, others: rest };
  }
  const mask = text.includes('/') ? undefined : maskLength(rest[0]?.[0]?.text);
  if (!text.includes('/') && mask === undefined) {
    throw invalidLine(
      line,
      `${quote(text)} is neither all, samehost, an address with its mask, nor a network`,
      'A single host is 10.1.2.3/32 or 2001:db8::1/128. Host names are not looked up.',
    );
  }
  try {
    const [network, ...more] = parseNetworks(mask === undefined ? text : `${text}/${mask}`);
    // A quoted field may hold what a list of networks is made of.
    if (!network || more.length > 0) throw new Error('a line has one address');
    return {
      network: networkMatcher(network),
      others: mask === undefined ? rest : rest.slice(1),
    };
  } catch (error) {
    throw invalidLine(line, errorText(error));
  }
}

function networkMatcher(network: Network): AddressMatcher {
  const [start, length] = network;
  const name = `${start.toString()}/${length}`;
  return { name, matches: (address) => isInNetworks(address, [network]) };
}

/** The length of a mask such as 255.255.0.0. Undefined for what is no mask. */
function maskLength(text: string | undefined): number | undefined {
  if (text === undefined || !/^[\d.]+$|^[\da-f:]+$/i.test(text) || !/[.:]/.test(text)) {
    return undefined;
  }
  try {
    const [[address] = []] = parseNetworks(text);
    return address?.prefixLengthFromSubnetMask() ?? undefined;
  } catch {
    return undefined;
  }
}

let ownAddresses: { readonly networks: readonly Network[]; readonly at: number } | undefined;

function isOwnAddress(address: Address | undefined): boolean {
  const now = performance.now();
  if (!ownAddresses || now - ownAddresses.at > OWN_ADDRESSES_MS) {
    const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    const text = all.map((one) => one.address).join();
    ownAddresses = { networks: parseNetworks(text), at: now };
  }
  return isInNetworks(address, ownAddresses.networks);
}

/** Tells whether one of the spellings of a name is meant. */
type NameMatcher = (spellings: readonly string[]) => boolean;

function userMatcher(line: number, field: Field, budget: Budget): NameMatcher {
  const matchers = field.map((token): NameMatcher => {
    if (!token.isQuoted && token.text === 'all') return () => true;
    if (!token.isQuoted && token.text.startsWith('+')) {
      throw invalidLine(
        line,
        `${quote(token.text)}: members of a role are not known here`,
        'List the users, or use an expression such as /^app_.',
      );
    }
    return nameMatcher(line, token, budget);
  });
  return (spellings) => matchers.some((matches) => matches(spellings));
}

/** The same for databases, of which some words depend on more than the name. */
type DatabaseMatcher = (query: RuleQuery, spellings: readonly string[]) => boolean;

function databaseMatcher(line: number, field: Field, budget: Budget): DatabaseMatcher {
  const matchers = field.map((token): DatabaseMatcher => {
    const word = token.isQuoted ? undefined : token.text;
    if (word === 'replication') return ({ replication }) => replication;
    if (word === 'all') return ({ replication }) => !replication;
    if (word === 'sameuser') {
      return ({ replication, user, database }) =>
        !replication && Boolean(user) && (database || user) === user;
    }
    if (word === 'samerole' || word === 'samegroup') {
      throw invalidLine(line, `${word}: members of a role are not known here`);
    }
    const matches = nameMatcher(line, token, budget);
    return ({ replication }, spellings) => !replication && matches(spellings);
  });
  return (query, spellings) => matchers.some((matches) => matches(query, spellings));
}

/** A name, or an expression, which begins with `/` whether it is quoted or not. */
function nameMatcher(line: number, token: FieldToken, budget: Budget): NameMatcher {
  const { text } = token;
  if (text === '') throw invalidLine(line, 'a name is empty');
  if (!token.isQuoted && text.startsWith('@')) {
    throw invalidLine(line, `${quote(text)}: other files are not read`);
  }
  if (!text.startsWith('/')) return (spellings) => spellings.includes(text);
  try {
    const pattern = budget.patterns.compile(text.slice(1), 'exact case');
    return (spellings) => spellings.some((spelling) => pattern.capture(spelling) !== undefined);
  } catch (error) {
    throw invalidLine(line, errorText(error), suggestRange(error));
  }
}

/**
 * The ways in which a name may reach the database: as it was sent, folded, and cut where PostgreSQL
 * cuts it. A line that fits one of them matches, so that no spelling avoids a `reject`.
 */
function spellingsOf(name: string | undefined): Spellings {
  if (!name) return { exact: [], folded: [] };
  const written = [name, cutName(name)].filter((spelling) => spelling.length <= SPELLING_LIMIT);
  return {
    exact: [...new Set(written)],
    folded: [...new Set([...written, ...written.map(foldName)])],
  };
}

/** PostgreSQL cuts between bytes. What is left of a character then is no name that a line has. */
function cutName(name: string): string {
  if (name.length * 3 <= NAME_BYTES) return name;
  const bytes = Buffer.from(name);
  return bytes.length <= NAME_BYTES ? name : bytes.toString('utf8', 0, NAME_BYTES);
}

/** Lines for the same clients must agree about folding, or a name would have two meanings. */
function checkFolding(rules: readonly AuthRule[]): void {
  const folding = new Map<string, AuthRule>();
  for (const rule of rules) {
    if (!takesTokens(rule.method)) continue;
    const place = `${rule.databases} ${rule.address}`;
    const other = folding.get(place) ?? rule;
    folding.set(place, other);
    if (other.policy.folds !== rule.policy.folds) {
      throw invalidLine(
        rule.line,
        `fold differs from line ${other.line}, which is for the same databases and addresses`,
      );
    }
  }
}

function canonical(field: Field): string {
  return field.map(({ text, isQuoted }) => (isQuoted ? JSON.stringify(text) : text)).join();
}
