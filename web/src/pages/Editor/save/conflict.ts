// A mask that two windows changed.
export interface Conflict {
  base: Uint8Array; // as this window last knew it saved
  mine: Uint8Array;
  theirs: Uint8Array;
  width: number;
  height: number;
  joins: boolean; // both changes can be laid into one
}
