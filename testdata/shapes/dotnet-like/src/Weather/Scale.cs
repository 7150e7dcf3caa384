namespace Weather
{
    /// <summary>Words for temperatures.</summary>
    public static class Scale
    {
        public static string Word(int degrees)
        {
            if (degrees < 0) return "frost";
            return degrees < 15 ? "cool" : "warm";
        }
    }
}
