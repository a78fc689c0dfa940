/**
 * Maps in the form of PostgreSQL's pg_ident.conf (manual, 20.2), one rule a line: what stands in
 * the last column but one is compared with a text, and the last column is what the text then stands
 * for. A text that begins with `/` is a regular expression, whose first capture group takes the
 * place of `\1`. Everything is compiled when the map is set; a login only matches.
 */
import { errorText, PgError } from '../lib/errors.ts';
import { compilePattern, PATTERN_LENGTH_LIMIT, type Pattern, suggestRange } from './pattern.ts';
import { quote } from './values.ts';

/** One line of a map. */
export interface MapRule {
  /** From 1. */
  readonly line: number;
  /** The column before the two that make a rule; undefined in a map that has only those. */
  readonly scope: string | undefined;
  /** The regular expression without its `/`; a literal has none. */
  readonly pattern?: string;
  /**
   * Whether the last column is written in full, so that no part of it comes from the text that is
   * matched.
   */
  readonly isFixed: boolean;
  /** The last column, as it is written. */
  readonly target: string;
  /** The last column for the text, `\1` put in; undefined when the rule does not match. */
  match(text: string): string | undefined;
}

/**
 * What the expressions of a map may cost; a compilation takes about a millisecond, during which
 * nobody logs in.
 */
export interface MapBudget {
  /** How many expressions there may be. */
  readonly patterns: number;
  /**
   * Instructions of all of them together: each takes about 20 ns for each character of each text
   * that is matched.
   */
  readonly instructions: number;
}

/** What stands for the first capture group. */
const CAPTURE = '\\1';

/**
 * The rules of a map's text in their order.
 *
 * @param columns 3 with a scope, 2 without
 * @throws PgError 22023 that names the line
 */
function parseMapRules(text: string, columns: 2 | 3, budget: MapBudget): readonly MapRule[] {
  const rest = { ...budget };
  return Object.freeze(
    text.split('\n').flatMap((line, index) => {
      const rule = parseLine(line, index + 1, columns, rest, budget);
      return rule === undefined ? [] : [Object.freeze(rule)];
    }),
  );
}

/** What the rest of the map may still use. */
type Remaining = { -readonly [K in keyof MapBudget]: MapBudget[K] };

function parseLine(
  text: string,
  line: number,
  count: 2 | 3,
  rest: Remaining,
  budget: MapBudget,
): MapRule | undefined {
  // ASCII white space only, as in the reference: a no-break space that was pasted in makes a line
  // that does not parse.
  const [written = ''] = text.split('#', 1);
  const columns = written.split(/[ \t\r\f\v]+/).filter((column) => column !== '');
  if (columns.length === 0) return undefined;
  const [source, target] = columns.slice(-2);
  if (source === undefined || target === undefined || columns.length !== count) {
    throw invalid(`unable to parse line ${line}: ${quote(written.trim())}`);
  }
  const common = {
    line,
    scope: count === 3 ? columns[0] : undefined,
    isFixed: !target.includes(CAPTURE),
    target,
  };
  if (!source.startsWith('/')) {
    checkCapture(target, 0, line);
    const literal = source.toLowerCase();
    return { ...common, match: (given) => (given.toLowerCase() === literal ? target : undefined) };
  }
  const pattern = compile(source.slice(1), line, rest, budget);
  checkCapture(target, pattern.groups, line);
  return {
    ...common,
    pattern: source.slice(1),
    match: (given) => substitute(target, pattern.capture(given)),
  };
}

function compile(source: string, line: number, rest: Remaining, budget: MapBudget): Pattern {
  if (source.length > PATTERN_LENGTH_LIMIT) {
    throw invalid(
      `unable to parse line ${line}: the expression is longer than ${PATTERN_LENGTH_LIMIT} characters`,
    );
  }
  rest.patterns -= 1;
  if (rest.patterns < 0)
    throw invalid(
      `unable to parse line ${line}: there are more than ${budget.patterns} expressions`,
    );
  let pattern: Pattern;
  try {
    pattern = compilePattern(source);
  } catch (error) {
    throw invalid(`unable to parse line ${line}: ${errorText(error)}`, suggestRange(error));
  }
  rest.instructions -= pattern.size;
  if (rest.instructions < 0) {
    throw invalid(
      `unable to parse line ${line}: the expressions up to here are too large to be matched at each login`,
    );
  }
  return pattern;
}

function checkCapture(target: string, groups: number, line: number): void {
  if (target.includes(CAPTURE) && groups === 0) {
    throw invalid(
      `saw ${CAPTURE} substitution on line ${line}, but pattern contains no subexpressions`,
    );
  }
}

/**
 * Puts the capture in at the first `\1`, by position: it is a stranger's text and may itself hold
 * what a replacement would expand.
 */
function substitute(target: string, capture: string | undefined): string | undefined {
  if (capture === undefined) return undefined;
  const at = target.indexOf(CAPTURE);
  return at === -1 ? target : target.slice(0, at) + capture + target.slice(at + CAPTURE.length);
}

function invalid(message: string, hint?: string): PgError {
  return new PgError({ code: 'invalid_setting_value', message, hint });
}

/*
 * The identity map: which SQL user an external identity may be, one rule a line:
 *
 *     # issuer              external identity          SQL user
 *     https://idp.example   /^(.*)@example\.com$       \1
 *     https://idp.example   ops@example.com            operator
 *
 * How a rule is read and matched is told in map-rules.ts.
 */

/** One line of the map. */
export interface IdentityRule {
  /** Compared exactly with the token's `iss`. */
  readonly issuer: string;
  /** From 1. */
  readonly line: number;
  /** The regular expression without its `/`; a literal has none. */
  readonly pattern?: string;
  /**
   * The SQL user for the principal, `\1` put in, not folded and possibly unusable; undefined when
   * the rule does not match.
   */
  match(principal: string): string | undefined;
}

/** The rules in their order. */
export interface IdentityRules {
  readonly rules: readonly IdentityRule[];
  /** The rules of one issuer; empty when it has none. */
  rulesFor(issuer: string): readonly IdentityRule[];
}

/** A login that tries all expressions on 50 characters stays within a tenth of a second. */
const IDENTITY_BUDGET = { patterns: 1000, instructions: 100_000 };

const noRules: readonly IdentityRule[] = Object.freeze([]);

/**
 * The rules of a map's text.
 *
 * @throws PgError 22023 that names the line
 */
export function parseIdentityRules(text: string): IdentityRules {
  const rules: IdentityRule[] = [];
  const byIssuer = new Map<string, IdentityRule[]>();
  for (const { scope: issuer = '', line, pattern, match } of parseMapRules(
    text,
    3,
    IDENTITY_BUDGET,
  )) {
    const rule = Object.freeze({ issuer, line, match, ...(pattern !== undefined && { pattern }) });
    rules.push(rule);
    const others = byIssuer.get(issuer);
    if (others === undefined) byIssuer.set(issuer, [rule]);
    else others.push(rule);
  }
  for (const ofIssuer of byIssuer.values()) Object.freeze(ofIssuer);
  return Object.freeze({
    rules: Object.freeze(rules),
    rulesFor: (issuer: string) => byIssuer.get(issuer) ?? noRules,
  });
}

/*
 * The role map: which role of the database a group of the identity provider stands for, one rule a
 * line:
 *
 *     # group                role
 *     engineering            developers
 *     /^db-(.*)$             \1
 *     /^domain\x20admins$    pg_monitor
 *
 * An empty map stands for itself: a group is the role of the same name. How a rule is read and
 * matched is told in map-rules.ts.
 */

/** The rules in their order; empty where groups name roles themselves. */
export type RoleRules = readonly MapRule[];

/**
 * Tried on each of up to a thousand groups: with all of them, and 20 characters each, a login stays
 * within two seconds.
 */
const ROLE_BUDGET = { patterns: 200, instructions: 5000 };

/**
 * The rules of a map's text.
 *
 * @throws PgError 22023 that names the line
 */
export function parseRoleRules(text: string): RoleRules {
  return parseMapRules(text, 2, ROLE_BUDGET);
}
