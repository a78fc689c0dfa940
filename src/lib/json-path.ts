/**
 * The value that a name stands for in a JSON object: a member of that name, a path with dots, or a
 * JSON Pointer (RFC 6901). The names are an operator's, the object is anybody's.
 */
import { isJsonObject, type JsonObject } from './json.ts';

/** As many as CockroachDB follows. */
export const POINTER_LIMIT = 10;

/** An element of a list (RFC 6901, 4): digits without a leading zero, few enough to be exact. */
const INDEX = /^(?:0|[1-9]\d{0,8})$/;

/**
 * The members that lead to a value. A pointer begins with `/`.
 *
 * @returns undefined for a pointer with a `~` that is not `~0` or `~1`, or with too many members
 */
export function parsePointer(pointer: string): readonly string[] | undefined {
  const [, ...parts] = pointer.split('/', POINTER_LIMIT + 2);
  if (parts.length > POINTER_LIMIT || /~(?![01])/.test(pointer)) return undefined;
  return parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/**
 * The value that a name stands for. A name that begins with `/` is a JSON Pointer. Of any other, a
 * member of exactly that name comes first (claims of Auth0 are URLs with dots). Otherwise it is a
 * path with dots, as in Keycloak's `realm_access.roles`, which does not enter lists.
 *
 * @returns undefined if there is none
 */
export function findMember(members: JsonObject, name: string): unknown {
  if (name.startsWith('/')) return follow(members, parsePointer(name) ?? [], elementOf);
  return members.has(name) ? members.get(name) : follow(members, name.split('.'), memberOf);
}

function follow(
  members: JsonObject,
  [first, ...path]: readonly string[],
  step: (value: unknown, part: string) => unknown,
): unknown {
  let value = first === undefined ? undefined : members.get(first);
  for (const part of path) {
    if (value === undefined) return undefined;
    value = step(value, part);
  }
  return value;
}

function elementOf(value: unknown, part: string): unknown {
  if (!Array.isArray(value)) return memberOf(value, part);
  return INDEX.test(part) ? value[Number(part)] : undefined;
}

function memberOf(value: unknown, part: string): unknown {
  return isJsonObject(value) && Object.hasOwn(value, part) ? value[part] : undefined;
}
