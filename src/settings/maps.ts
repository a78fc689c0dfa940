/**
 * The identity map and the role map, in the form of PostgreSQL's pg_ident.conf (manual, 20.2): one
 * rule a line, `#` begins a comment. The first column is the issuer, which is compared exactly. The
 * second one is compared with a text, and the third one is the result. A second column that begins
 * with `/` is a regular expression, and its first capture group replaces `\1` in the third one. All
 * expressions are compiled when the map is set.
 *
 *     # identity map: issuer   external identity        SQL user
 *     https://idp.example      /^(.*)@example\.com$     \1
 *     https://idp.example      ops@example.com          operator
 *
 *     # role map: issuer       group                    role
 *     https://idp.example      engineering              developers
 *     https://idp.example      /^db-(.*)$               \1
 *     https://idp.example      /^domain\x20admins$      pg_monitor
 *
 * A line of the role map may be without an issuer, as all were before there was that column. Such a
 * rule is for the groups of all issuers, and is warned of.
 */
import { errorText } from '../lib/errors.ts';
import { type Pattern, PatternCompiler, type PatternLimits, suggestRange } from './pattern.ts';
import { invalidSetting, quote } from './values.ts';

/** One line of the identity map. */
export interface IdentityRule {
  /** Compared exactly with the token's `iss`. */
  readonly issuer: string;
  /** From 1. */
  readonly line: number;
  /** The regular expression without its `/`; absent for a literal. */
  readonly pattern?: string;
  /**
   * The SQL user for the principal, with `\1` replaced. The name is not folded and may be
   * unusable. Undefined if the rule does not match.
   */
  match(principal: string): string | undefined;
}

/** The identity map. */
export interface IdentityRules {
  /** All rules, in the order of the text. */
  readonly rules: readonly IdentityRule[];
  /** The rules of one issuer, in the order of the text. */
  rulesFor(issuer: string): readonly IdentityRule[];
}

/** The role map: its rules in the order of the text. */
export type RoleRules = readonly MapRule[];

/** One line of either map. */
interface MapRule {
  /** From 1. */
  readonly line: number;
  /** Compared exactly with the token's `iss`; undefined in a line of two columns. */
  readonly issuer: string | undefined;
  /** The regular expression without its `/`; absent for a literal. */
  readonly pattern?: string;
  /** Whether the last column is written in full, so that it takes nothing from the matched text. */
  readonly isFixed: boolean;
  /** The last column, with `\1` replaced; undefined if the rule does not match. */
  match(text: string): string | undefined;
}

/** A login that tries all expressions on 50 characters stays within a tenth of a second. */
const IDENTITY_LIMITS: PatternLimits = { patterns: 1000, instructions: 100_000 };

/**
 * A login tries the rules on up to a thousand groups. With that many groups of 20 characters it
 * stays within two seconds.
 */
const ROLE_LIMITS: PatternLimits = { patterns: 200, instructions: 5000 };

/** Stands for the first capture group. */
const CAPTURE = '\\1';

const noRules: readonly IdentityRule[] = Object.freeze([]);

/**
 * Parses the identity map.
 *
 * @throws PgError 22023 that names the line
 */
export function parseIdentityRules(text: string): IdentityRules {
  const rules = parseMapRules(text, [3], IDENTITY_LIMITS).map(
    ({ issuer = '', line, pattern, match }): IdentityRule =>
      Object.freeze({ issuer, line, match, ...(pattern !== undefined && { pattern }) }),
  );
  const byIssuer = new Map<string, IdentityRule[]>();
  for (const rule of rules) {
    const others = byIssuer.get(rule.issuer);
    if (others === undefined) byIssuer.set(rule.issuer, [rule]);
    else others.push(rule);
  }
  for (const ofIssuer of byIssuer.values()) Object.freeze(ofIssuer);
  return Object.freeze({
    rules: Object.freeze(rules),
    rulesFor: (issuer: string) => byIssuer.get(issuer) ?? noRules,
  });
}

/**
 * Parses the role map.
 *
 * @throws PgError 22023 that names the line
 */
export function parseRoleRules(text: string): RoleRules {
  return parseMapRules(text, [2, 3], ROLE_LIMITS);
}

/** @param counts how many columns a line may have */
function parseMapRules(
  text: string,
  counts: readonly number[],
  limits: PatternLimits,
): readonly MapRule[] {
  const compiler = new PatternCompiler(limits);
  return Object.freeze(
    text.split('\n').flatMap((line, index) => {
      const rule = parseLine(line, index + 1, counts, compiler);
      return rule === undefined ? [] : [Object.freeze(rule)];
    }),
  );
}

function parseLine(
  text: string,
  line: number,
  counts: readonly number[],
  compiler: PatternCompiler,
): MapRule | undefined {
  // Only ASCII white space separates columns, as in CockroachDB. A pasted no-break space is part
  // of a column, and the line does not parse.
  const [written = ''] = text.split('#', 1);
  const columns = written.split(/[ \t\r\f\v]+/).filter((column) => column !== '');
  if (columns.length === 0) return undefined;
  const [source, target] = columns.slice(-2);
  if (source === undefined || target === undefined || !counts.includes(columns.length))
    throw invalidSetting(`unable to parse line ${line}: ${quote(written.trim())}`);
  const common = {
    line,
    issuer: columns.length === 3 ? columns[0] : undefined,
    isFixed: !target.includes(CAPTURE),
  };
  if (!source.startsWith('/')) {
    checkCapture(target, 0, line);
    const literal = source.toLowerCase();
    return { ...common, match: (given) => (given.toLowerCase() === literal ? target : undefined) };
  }
  const pattern = compile(source.slice(1), line, compiler);
  checkCapture(target, pattern.groups, line);
  return {
    ...common,
    pattern: source.slice(1),
    match: (given) => substitute(target, pattern.capture(given)),
  };
}

function compile(source: string, line: number, compiler: PatternCompiler): Pattern {
  try {
    return compiler.compile(source, 'any case');
  } catch (error) {
    throw invalidSetting(`unable to parse line ${line}: ${errorText(error)}`, suggestRange(error));
  }
}

function checkCapture(target: string, groups: number, line: number): void {
  if (target.includes(CAPTURE) && groups === 0) {
    throw invalidSetting(
      `saw ${CAPTURE} substitution on line ${line}, but pattern contains no subexpressions`,
    );
  }
}

/**
 * Replaces the first `\1` by position. The capture comes from outside and may itself hold what
 * `String.replace` would expand.
 */
function substitute(target: string, capture: string | undefined): string | undefined {
  if (capture === undefined) return undefined;
  const at = target.indexOf(CAPTURE);
  return at === -1 ? target : target.slice(0, at) + capture + target.slice(at + CAPTURE.length);
}
