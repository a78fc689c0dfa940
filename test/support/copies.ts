/** Both ways to copy a session's bytes, for tests that hold for each of them. */
import { copyByStreams, type StartCopy } from '../../src/session/copy.ts';
import { copyByHandles, openInternals } from '../../src/session/copy-handles.ts';

const internals = openInternals();
if (!internals) throw new Error('this Node.js has no binding stream_wrap');

/** By the names that SHOW STATS has for them. */
export const copies: readonly (readonly [name: string, copy: StartCopy])[] = [
  ['handles', copyByHandles(internals)],
  ['streams', copyByStreams],
];
