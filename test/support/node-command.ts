/** How tests start other processes of Node. */

/**
 * A command and its arguments for `spawn` that runs Node as an operator's shell does. Tap adds
 * NODE_OPTIONS to the environment of every process that a test starts, to measure coverage. That
 * doubles the time of a start, and here no coverage is measured. The process id is Node's, so that
 * signals reach it.
 */
export function nodeCommand(...args: readonly string[]): [command: string, args: string[]] {
  return ['/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, ...args]];
}
