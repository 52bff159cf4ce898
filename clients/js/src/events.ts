/** An `EventTarget` with named, typed details. */
export class Emitter<Events extends object> extends EventTarget {
  /** Calls `listener` with the detail of each event. Returns a function that removes it. */
  on<Name extends keyof Events & string>(name: Name, listener: (detail: Events[Name]) => void): () => void {
    const handler = (event: Event) => listener((event as CustomEvent<Events[Name]>).detail);
    this.addEventListener(name, handler);
    return () => this.removeEventListener(name, handler);
  }

  protected emit<Name extends keyof Events & string>(name: Name, detail: Events[Name]): void {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
